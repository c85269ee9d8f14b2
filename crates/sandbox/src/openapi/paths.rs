//! Which operation of a document a method and a path mean.

use serde_json::Value;

use super::schema::pointer_to;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// An operation found for a concrete path.
pub(super) struct Operation {
    /// JSON pointer to the operation in the document.
    pub(super) pointer: String,
    /// JSON pointer to the path item that holds it.
    pub(super) path_pointer: String,
    /// The path's parameters, decoded: (name, value).
    pub(super) values: Vec<(String, String)>,
}

pub(super) struct Routes(Vec<Route>);

struct Route {
    template: String,
    methods: Vec<String>,
    segments: Vec<Segment>,
}

enum Segment {
    Fixed(String),
    Named(String),
}

impl Routes {
    pub(super) fn of(root: &Value) -> Self {
        let Some(paths) = root.get("paths").and_then(Value::as_object) else { return Self(Vec::new()) };
        let route = |(template, item): (&String, &Value)| Route {
            template: template.clone(),
            methods: METHODS.into_iter().filter(|m| item.get(m).is_some()).map(str::to_owned).collect(),
            segments: template.split('/').skip(1).map(segment).collect(),
        };
        Self(paths.iter().map(route).collect())
    }

    pub(super) fn operations(&self) -> Vec<(String, String)> {
        let all = self.0.iter();
        all.flat_map(|r| r.methods.iter().map(|m| (m.to_ascii_uppercase(), r.template.clone()))).collect()
    }

    /// The operation, or why there is none. A concrete segment wins over a named one.
    pub(super) fn find(&self, method: &str, path: &str) -> Result<Operation, String> {
        let given: Vec<&str> = path.split('/').skip(1).collect();
        let method = method.to_ascii_lowercase();
        let mut matching: Vec<&Route> = self.0.iter().filter(|route| route.fits(&given)).collect();
        matching.sort_by_key(|route| std::cmp::Reverse(route.concreteness()));
        let Some(best) = matching.first() else { return Err("this path is not documented".to_owned()) };
        let Some(route) = matching.iter().find(|route| route.methods.contains(&method)) else {
            return Err(format!("this method is not documented for {}", best.template));
        };
        let path_pointer = pointer_to("", &["paths", &route.template]);
        Ok(Operation { pointer: pointer_to(&path_pointer, &[&method]), path_pointer, values: route.values(&given) })
    }
}

impl Route {
    fn fits(&self, given: &[&str]) -> bool {
        let fits = |(segment, given): (&Segment, &&str)| match segment {
            Segment::Fixed(text) => text == given,
            Segment::Named(_) => !given.is_empty(),
        };
        self.segments.len() == given.len() && self.segments.iter().zip(given).all(fits)
    }

    fn concreteness(&self) -> Vec<bool> {
        self.segments.iter().map(|segment| matches!(segment, Segment::Fixed(_))).collect()
    }

    fn values(&self, given: &[&str]) -> Vec<(String, String)> {
        let value = |(segment, given): (&Segment, &&str)| match segment {
            Segment::Fixed(_) => None,
            Segment::Named(name) => Some((name.clone(), decode(given))),
        };
        self.segments.iter().zip(given).filter_map(value).collect()
    }
}

fn segment(text: &str) -> Segment {
    match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => Segment::Named(name.to_owned()),
        None => Segment::Fixed(text.to_owned()),
    }
}

/// The pairs of a query string, decoded, in order.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
    };
    pairs.map(pair).collect()
}

/// Percent-decodes; what is no valid escape stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|digits| hex::decode(digits).ok());
        out.extend_from_slice(escaped.as_deref().unwrap_or(&[byte]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concrete_segment_wins_over_a_named_one() {
        let root = serde_json::json!({"paths": {"/a/{id}": {"get": {}, "post": {}}, "/a/search": {"post": {}}}});
        let routes = Routes::of(&root);
        let pointer = |method, path| routes.find(method, path).map(|found| found.pointer).unwrap_or_else(|why| why);
        assert_eq!(pointer("POST", "/a/search"), "/paths/~1a~1search/post");
        assert_eq!(pointer("GET", "/a/search"), "/paths/~1a~1{id}/get");
        assert_eq!(pointer("POST", "/a/7"), "/paths/~1a~1{id}/post");
        assert_eq!(pointer("PUT", "/a/7"), "this method is not documented for /a/{id}");
        assert_eq!(pointer("GET", "/a/"), "this path is not documented");
    }

    #[test]
    fn query_strings_are_decoded() {
        assert_eq!(
            query_pairs("a=1&b=x%20y+z&c"),
            [("a", "1"), ("b", "x y z"), ("c", "")].map(|(k, v)| (k.into(), v.into()))
        );
        assert_eq!(decode("50%"), "50%");
    }
}
