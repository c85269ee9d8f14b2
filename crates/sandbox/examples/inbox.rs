//! A sandbox with a little life in it, to look at the operator's page: `cargo run -p sandbox --example inbox`.

use sandbox::{Fault, Kind, NewTicket, Sandbox, Settings, Upload};

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
    let joan = sandbox.add_contact(Some("joan"), None);
    let refund = NewTicket {
        title: "Refund has not arrived".into(),
        description: "Ordered on Monday, returned on Tuesday.".into(),
        ..NewTicket::default()
    };
    let refund = operator.creates_ticket(&joan, refund).await;
    operator.adds_part(&refund, "comment", Some("Is there any news?"), "user").await;
    operator.moves_ticket(&refund, "Waiting on bank").await;
    operator.replies(&refund, "We wait for the bank.").await;
    let ledger = NewTicket {
        ticket_type: Some("Ledger check".into()),
        title: "Where did 42 EUR go?".into(),
        ..NewTicket::default()
    };
    operator.creates_ticket(&joan, ledger).await;
    sandbox.fault(Fault::new(Kind::Slow { ms: 500 }).with_probability(0.2, 1));
    println!("{}/operator", sandbox.url());
    tokio::signal::ctrl_c().await
}
