//! Says when the widget has not been built, and has the crate compiled anew when it has.

use std::path::Path;

const WIDGET: &str = "../../web/packages/widget/dist";

fn main() {
    println!("cargo:rerun-if-changed={WIDGET}");
    println!("cargo:rerun-if-changed=build.rs");
    if !Path::new(WIDGET).join("index.html").exists() {
        println!("cargo:warning=the widget is not built, and /widget/ will say so: run `npm ci` first");
    }
}
