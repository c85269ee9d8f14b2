//! The page's small parts, and what the document may not smuggle in.

use serde_norway::Value;

use super::{page, schema, text};

fn yaml(text: &str) -> Value {
    serde_norway::from_str(text).expect("a test's YAML")
}

#[test]
fn a_schema_is_said_in_words() {
    let table = [
        ("type: integer\nminimum: 1\nmaximum: 5", "integer <span class=\"rules\">1 to 5</span>"),
        ("type: [string, 'null']\nmaxLength: 9", "string or null <span class=\"rules\">at most 9 long</span>"),
        ("type: array\nitems: { $ref: '#/components/schemas/A' }", "array of <a href=\"#schema-A\">A</a>"),
        ("oneOf:\n- $ref: '#/components/schemas/A'\n- type: 'null'", "<a href=\"#schema-A\">A</a> or null"),
        (
            "type: string\nenum: [a, b]\ndefault: a",
            "string <span class=\"rules\"><code>a</code> | <code>b</code>, default <code>a</code></span>",
        ),
        ("type: object\nadditionalProperties: { type: string }", "object of string"),
        ("description: no more is said", "anything"),
    ];
    for (schema, said) in table {
        assert_eq!(schema::line(&yaml(schema)), said);
    }
}

#[test]
fn fields_within_fields_are_listed_and_the_required_ones_marked() {
    let listed = schema::fields(&yaml(
        "type: object\nrequired: [a]\nproperties: { a: { type: object, properties: { b: { type: string } } } }",
    ));
    assert_eq!(
        listed,
        "<dl>\n<dt><code>a</code> object <em>required</em></dt>\n<dd><dl>\n<dt><code>b</code> string</dt>\n\
         <dd></dd>\n</dl>\n</dd>\n</dl>\n"
    );
}

#[test]
fn what_the_document_says_is_text_never_markup() {
    let evil = "<script src=//evil.example></script><img onerror=x>";
    let document = format!(
        "info: {{ title: '{evil}', version: '{evil}', description: '{evil}' }}\n\
         tags: [{{ name: '{evil}', description: '{evil}' }}]\n\
         paths:\n  '/{evil}':\n    get:\n      operationId: '{evil}'\n      tags: ['{evil}']\n      summary: '{evil}'\n\
         \x20     description: '{evil}'\n      parameters: [{{ name: '{evil}', in: '{evil}', schema: {{ pattern: '{evil}' }} }}]\n\
         \x20     responses: {{ '{evil}': {{ description: '{evil}' }} }}\n\
         components: {{ schemas: {{ '{evil}': {{ enum: ['{evil}'] }} }} }}"
    );
    let page = page(&yaml(&document));
    assert!(page.contains("&lt;script"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
}

#[test]
fn markdown_keeps_its_tables_and_loses_its_html() {
    assert!(text::markdown("| a |\n|---|\n| `b` |").contains("<td><code>b</code></td>"));
    assert_eq!(text::sentence("**a** & <b>"), "<strong>a</strong> &amp; &lt;b&gt;");
    assert_eq!(text::sentence("a\n\nb"), "<p>a</p>\n<p>b</p>\n");
}
