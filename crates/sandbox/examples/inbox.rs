//! A sandbox with a little life in it, to look at the operator's page: `cargo run -p sandbox --example inbox`.

use sandbox::{Fault, Kind, Sandbox, Settings, Upload};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sandbox = Sandbox::start(Settings { listen: ([127, 0, 0, 1], 4010).into(), ..Settings::default() }).await?;
    let operator = sandbox.operator();
    for (name, question) in
        [("ada", "My transfer has been pending since Monday."), ("grace", "Can I change my e-mail?")]
    {
        let contact = sandbox.add_contact(Some(name), None);
        let chat = operator.starts(&contact, "Hello! How can I help?").await;
        operator.adds_part(&chat, "comment", Some(question), "user").await;
        operator.notes(&chat, "Knows us since 2019, <b>be kind</b>.").await;
        operator.replies(&chat, "Let me look at that <b>at once</b>.").await;
        let receipt =
            Upload { name: "receipt.txt".into(), content_type: "text/plain".into(), data: b"42 EUR".to_vec() };
        operator.replies_with(&chat, "", vec![receipt]).await;
        if name == "grace" {
            operator.closes(&chat, None).await;
        }
    }
    sandbox.fault(Fault::new(Kind::Slow { ms: 500 }).with_probability(0.2, 1));
    println!("{}/operator", sandbox.url());
    tokio::signal::ctrl_c().await
}
