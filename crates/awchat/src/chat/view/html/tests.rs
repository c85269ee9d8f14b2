//! Tables and laws of the text functions.

use proptest::prelude::*;

use super::*;

#[test]
fn html_becomes_text() {
    for (html, text) in [
        ("<p>a<br>b</p><p>c</p>", "a\nb\nc"),
        ("<p class=\"no-margin\">a</p>\n<p class=\"no-margin\"></p>\n<p>b</p>", "a\nb"),
        ("<p>a</p><p><br></p><p>b</p>", "a\n\nb"),
        ("<p>a</p><p>&nbsp;</p><p>b</p>", "a\n\nb"),
        ("<p>a &amp;&lt;b&gt; &#39;c&#x27; &eacute;&euro;</p>", "a &<b> 'c' é€"),
        ("<p>  lots\n of   space </p>", "lots of space"),
        ("<ul><li>a</li><li><p>b</p></li></ul>after", "- a\n- b\nafter"),
        ("before<ol><li>a</li><li><p>b</p><p>c</p></li></ol>", "before\n1. a\n2. b\nc"),
        ("<p>See <a href=\"https://x.io/d?a=1&amp;b=2\">the docs</a>.</p>", "See the docs (https://x.io/d?a=1&b=2)."),
        ("<p><a href=\"https://x.io/\">x.io</a> <a href=\"mailto:a@x.io\">a@x.io</a></p>", "x.io a@x.io"),
        ("<p><a href=\"javascript:alert(1)\">click</a></p>", "click"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<style>p{}</style><script>if (a<b) {}</script><svg><text>no</text></svg><p>yes</p>", "yes"),
        ("<p>unclosed <b>bold", "<p>unclosed <b>bold"),
        ("<p>unclosed <b>bold</p>", "unclosed bold"),
    ] {
        assert_eq!(text_of(html), text, "{html}");
    }
}

#[test]
fn text_without_markup_stays_as_it_is() {
    for text in [
        "a < b & c",
        "1 < 2 && a <b>",
        "x &amp; y",
        "two\n\n  lines",
        "<3",
        "a <- b -> c",
        "</",
        "< br >",
        "if a<b then",
    ] {
        assert_eq!(text_of(text), text);
        assert_eq!(normalised_html(&clean_html(text)), normalised_text(text));
    }
    assert_eq!(text_of("  a\r\nb\u{0}\u{1b}[0m \n"), "a\nb[0m");
    assert_eq!(clean_html("a < b\nc"), "<p>a &lt; b<br>c</p>");
    assert_eq!(clean_html(""), "");
}

#[test]
fn only_harmless_html_is_left() {
    let link = "target=\"_blank\" rel=\"noopener noreferrer nofollow\"";
    for (html, clean) in [
        ("<p class=\"no-margin\" style=\"color:red\" onclick=\"x()\">a</p>", "<p>a</p>"),
        ("<p>a<script>alert(1)</script></p>", "<p>a</p>"),
        ("<p><img src=x onerror=alert(1)>a</p>", "<p>a</p>"),
        ("<p><svg onload=alert(1)><a href=\"https://x\">b</a></svg>a</p>", "<p>a</p>"),
        ("<math><mtext><style><img src=x onerror=alert(1)></style></mtext></math><p>a</p>", "<p>a</p>"),
        ("<iframe src=\"https://x\"></iframe><p>a</p>", "<p>a</p>"),
        ("<p><a href=\"https://x.io\">a</a></p>", &format!("<p><a href=\"https://x.io\" {link}>a</a></p>")),
        ("<p><a href=\"mailto:a@x.io\">a</a></p>", &format!("<p><a href=\"mailto:a@x.io\" {link}>a</a></p>")),
        ("<p><a href=\"\u{7}ht\ntps://x.io \">a</a></p>", &format!("<p><a href=\"https://x.io\" {link}>a</a></p>")),
        ("<p><a href=\"javascript:alert(1)\">a</a></p>", &format!("<p><a {link}>a</a></p>")),
        ("<p><a href=\" java\nscript:alert(1)\">a</a></p>", &format!("<p><a {link}>a</a></p>")),
        ("<p><a href=\"data:text/html,x\">a</a></p>", &format!("<p><a {link}>a</a></p>")),
        ("<p><a href=\"/relative\" target=_top>a</a></p>", &format!("<p><a {link}>a</a></p>")),
        ("<h1>a</h1><form action=\"https://x\"><input name=p>b</form><!-- c --></p>", "<p>a</p>b"),
        (
            "<ul><li><b>a</b> <strong>b</strong> <i>c</i> <em>d</em> <u>e</u> <code>f</code></li></ul>",
            "<ul><li><b>a</b> <strong>b</strong> <i>c</i> <em>d</em> <u>e</u> <code>f</code></li></ul>",
        ),
        ("<blockquote><pre>a</pre></blockquote>", "<blockquote><pre>a</pre></blockquote>"),
        ("<p>a</p><base href=\"https://x\"><link rel=stylesheet href=x><meta http-equiv=refresh>", "<p>a</p>"),
    ] {
        assert_eq!(clean_html(html), clean, "{html}");
    }
}

#[test]
fn deep_and_broken_html_takes_no_long_time() {
    for piece in
        ["<p><div>", "<b><i>", "<a href=x>", "<table><td>", "<ul><li>", "</p><", "<br", "<div></b>", "<b><div></b>"]
    {
        let html = format!("{}</p>", piece.repeat(60_000 / piece.len()));
        assert!(clean_html(&html).len() < 10 * html.len());
    }
}

proptest! {
    #[test]
    fn a_text_and_its_html_are_the_same_when_normalised(text in any::<String>()) {
        prop_assert_eq!(normalised_html(&html_of_plain(&text)), normalised_text(&text));
    }

    #[test]
    fn markup_in_a_users_text_is_text(text in "([a-c<>/&;# \n\r\t\u{0}\u{a0}\u{301}]|<b>|<br>|</p>|&amp;|&lt|<!--|<script>|]]>){0,12}") {
        let html = html_of_plain(&text);
        prop_assert_eq!(normalised_html(&html), normalised_text(&text));
        prop_assert_eq!(normalised_html(&clean_html(&html)), normalised_text(&text));
        prop_assert_eq!(normalised_text(&normalised_text(&text)), normalised_text(&text));
    }

    #[test]
    fn nothing_harmful_survives(body in "([a-c<>/&\"'= ]|<p>|</p>|<a href=\"https://x\" onclick=y>|</a>|<svg>|<img src=x onerror=y>|<style>|<div>){0,12}") {
        let clean = clean_html(&body);
        let link = "a href=\"https://x\" target=\"_blank\" rel=\"noopener noreferrer nofollow\"";
        for piece in clean.split('<').skip(1) {
            let tag = piece.split('>').next().unwrap_or_default();
            prop_assert!(tag == link || ALLOWED.contains(&tag.trim_start_matches('/')), "{}", clean);
        }
    }

    #[test]
    fn the_html_says_what_the_text_says(body in "([ab &]|&lt;|<br>|<p>c</p>|<div>d <b>e</b></div>|<ul><li>f</li><li><p>g</p></li></ul>|<h2>h</h2>|<p><a href=\"https://x\">i</a></p>|<pre>j\nk</pre>){0,8}</p>") {
        let words = |text: &str| text.replace("- ", "").replace(" (https://x)", "");
        prop_assert_eq!(normalised_html(&clean_html(&body)), normalised_html(&body));
        prop_assert_eq!(words(&normalised_html(&body)), words(&normalised_text(&text_of(&body))));
    }
}
