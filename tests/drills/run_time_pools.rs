//! "Pools at run time": an operator makes a pool and a key, an issuer uses them, and both end.

use super::callers::Issuer;
use super::machine::Machine;
use super::runbook::blocks;
use crate::support::eventually;
use crate::support::process::free_port;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_makes_a_pool_and_a_key_and_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(folder.path(), "one", "demo");
    let address = format!("127.0.0.1:{}", free_port());
    machine.call("127.0.0.1:8092", &address);
    machine.call("/root/", format!("{}/", machine.root().display()));
    let variable = ("STATUSLIST__SERVER__MANAGEMENT_LISTEN".to_owned(), address);
    machine.unit_with(&[variable]);
    let template = "size: 8000, update-interval: 1s, signer: { pem: { key: /etc/statuslist/key.pem } }";
    let top = format!("admin-api-keys: [ ADMIN ]\ntemplates: {{ issuers: {{ {template} }} }}");
    machine.configure(&top, "api-key: x");
    let [admin, make, rotate, end] =
        <[String; 4]>::try_from(blocks("Pools at run time")).expect("the page has changed");
    let hash = machine.follow(&admin).await;
    let hash = hash.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    machine.edit("ADMIN", &format!("{{ key: '{hash}', name: operator }}"));
    machine.follow("systemctl start statuslist").await;
    let made = eventually("the service", async || {
        let made = machine.run(&make).await;
        made.status.success().then(|| String::from_utf8(made.stdout).unwrap())
    })
    .await;
    assert!(made.contains("\"name\":\"acme\"") && made.contains("\"title\":\"Acme\""), "{made}");

    let key = |name: &str| std::fs::read_to_string(machine.root().join(name)).unwrap().trim().to_owned();
    let first = Issuer::with_key(&machine.url(), "acme", &key("acme.key"));
    let reference = first.references(1).await.remove(0);
    first.revoke(&reference).await;
    machine.follow(&rotate).await;
    let second = Issuer::with_key(&machine.url(), "acme", &key("acme-new.key"));
    assert!(second.try_references(1).await.is_ok() && first.try_references(1).await.is_ok());
    machine.follow(&end).await;
    for issuer in [first, second] {
        let refused = issuer.try_references(1).await.unwrap_err();
        assert!(refused.starts_with("401 ") || refused.starts_with("404 "), "{refused}");
    }
}
