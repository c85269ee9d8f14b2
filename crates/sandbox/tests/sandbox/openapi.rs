//! The checker of OpenAPI documents, on a small document of version 3.1.

use sandbox::openapi::Document;
use serde_json::{Value, json};

const DOCUMENT: &str = r##"
openapi: 3.1.0
info: { title: Notes, version: "1" }
paths:
  /notes/{id}:
    parameters:
      - { name: id, in: path, required: true, schema: { type: string, pattern: "^[0-9]+$" } }
    get:
      parameters:
        - { name: wait, in: query, schema: { type: integer, maximum: 30 } }
        - { name: as, in: query, required: true, schema: { enum: [html, plain] } }
      responses:
        200:
          headers: { ETag: { required: true, schema: { type: string } } }
          content: { application/json: { schema: { $ref: "#/components/schemas/Note" } } }
        204: { description: nothing new }
        4XX: { $ref: "#/components/responses/Problem" }
    delete:
      responses:
        default: { $ref: "#/components/responses/Problem" }
  /notes:
    post:
      requestBody:
        required: true
        content: { application/json: { schema: { $ref: "#/components/schemas/Note" } } }
      responses:
        "201": { content: { application/json: { schema: { $ref: "#/components/schemas/Note" } } } }
  /file:
    get: { responses: { "200": { content: { "image/*": {} } } } }
components:
  responses:
    Problem: { content: { application/json: { schema: { type: object, required: [error] } } } }
  schemas:
    Note:
      type: object
      required: [text]
      properties:
        text: { type: string }
        parent: { anyOf: [{ $ref: "#/components/schemas/Note" }, { type: "null" }] }
"##;

fn found(checked: Result<(), Vec<String>>) -> Vec<String> {
    checked.err().unwrap_or_default()
}

#[test]
fn requests_are_held_against_parameters_and_body() {
    let document = Document::from_yaml(DOCUMENT).expect("a document");
    let request = |method: &str, path: &str, body: Value| {
        found(document.check_request(method, path, (!body.is_null()).then_some(&body)))
    };
    let none: [String; 0] = [];
    assert_eq!(request("GET", "/notes/7?as=html&wait=30", Value::Null), none);
    assert_eq!(request("POST", "/notes", json!({ "text": "a", "parent": { "text": "b", "parent": null } })), none);
    for (method, path, body, expected) in [
        ("GET", "/notes/7", Value::Null, "parameter \"as\" is missing"),
        ("GET", "/notes/x?as=html", Value::Null, "parameter \"id\": \"x\" does not match"),
        ("GET", "/notes/7?as=pdf", Value::Null, "parameter \"as\": \"pdf\" is not one of"),
        ("GET", "/notes/7?as=html&wait=31", Value::Null, "parameter \"wait\""),
        ("GET", "/notes/7?as=html&what=1", Value::Null, "query parameter \"what\" is not documented"),
        ("POST", "/notes", Value::Null, "the request body is missing"),
        ("POST", "/notes", json!({ "text": 1 }), "request body at /text: 1 is not of type \"string\""),
        ("POST", "/notes", json!({ "text": "a", "txt": "b" }), "property \"txt\" is not documented"),
        ("POST", "/notes", json!({ "text": "a", "parent": { "text": 5 } }), "request body at /parent"),
        ("PUT", "/notes", json!({}), "this method is not documented for /notes"),
        ("GET", "/note", Value::Null, "this path is not documented"),
        ("DELETE", "/notes/1", json!({}), "a request body is not documented"),
    ] {
        let sentences = request(method, path, body);
        assert!(sentences.len() == 1 && sentences[0].contains(expected), "{method} {path}: {sentences:?}");
    }
}

#[test]
fn answers_are_held_against_status_type_headers_and_body() {
    let document = Document::from_yaml(DOCUMENT).expect("a document");
    let tag = [("etag".to_owned(), "\"1\"".to_owned())];
    let json_type = Some("application/json; charset=utf-8");
    let answer =
        |method: &str, path: &str, status: u16, kind: Option<&str>, headers: &[(String, String)], body: Value| {
            found(document.check_response(method, path, status, kind, headers, (!body.is_null()).then_some(&body)))
        };
    let none: [String; 0] = [];
    assert_eq!(answer("GET", "/notes/7?as=html", 200, json_type, &tag, json!({ "text": "a" })), none);
    assert_eq!(answer("GET", "/notes/7", 204, None, &[], Value::Null), none);
    assert_eq!(answer("GET", "/notes/7", 404, json_type, &[], json!({ "error": "x" })), none);
    assert_eq!(answer("DELETE", "/notes/7", 500, json_type, &[], json!({ "error": "x" })), none);
    assert_eq!(answer("GET", "/file", 200, Some("image/png"), &[], Value::Null), none);
    for (status, kind, headers, body, expected) in [
        (200, json_type, &tag[..0], json!({ "text": "a" }), "header \"ETag\" is missing"),
        (200, json_type, &tag[..], json!({}), "\"text\" is a required property"),
        (200, json_type, &tag[..], Value::Null, "there is no JSON body"),
        (200, Some("text/html"), &tag[..], Value::Null, "content type \"text/html\" is not documented"),
        (200, None, &tag[..], Value::Null, "there is no content type"),
        (204, None, &tag[..], json!({}), "a body is not documented"),
        (302, None, &tag[..], Value::Null, "this status is not documented"),
        (418, json_type, &tag[..], json!({}), "\"error\" is a required property"),
    ] {
        let sentences = answer("GET", "/notes/7", status, kind, headers, body);
        assert!(sentences.len() == 1 && sentences[0].contains(expected), "{status}: {sentences:?}");
    }
}

#[test]
fn what_is_no_openapi_document_is_refused() {
    for text in ["", "a: [", "openapi: 2.0", "{}"] {
        assert!(Document::from_yaml(text).is_err(), "{text}");
    }
}
