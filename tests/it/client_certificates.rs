//! Client certificates of the write API: the shipped nginx verifies them and reports it; the service trusts nobody else's report.

use std::io::Write;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use reqwest::{Certificate, Client, Identity};
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, TestApp};
use crate::support::nginx::{ApiTls, Nginx, Settings};
use crate::support::process::{Process, command, free_port};

/// An authority that issues certificates. All have the same name, so only their signatures distinguish them.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Authority of the issuers");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate that ends with `last_year`, and its key.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose, last_year: i32) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.not_after = date_time_ymd(last_year, 12, 31);
        format!("{}{}", params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A client of nginx with this certificate, if any.
    fn client(&self, certificate: Option<&str>) -> Client {
        let roots = [Certificate::from_pem(self.0.pem().as_bytes()).unwrap()];
        let client = Client::builder().tls_certs_only(roots);
        match certificate {
            Some(pem) => client.identity(Identity::from_pem(pem.as_bytes()).unwrap()),
            None => client,
        }
        .build()
        .unwrap()
    }
}

/// A service that expects `proxy` to report client certificates.
fn service(proxy: &str) -> TestApp {
    let settings = format!(
        "server: {{ trusted-proxies: [{proxy}], client-certificate: {{ header: X-Client-Verify, value: SUCCESS }} }}
status-list-pools: {{ p: {{ api-key: {KEY} }} }}"
    );
    TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System)
}

/// The address from which nginx connects to the service, distinct from all other clients here.
const PROXY: &str = "127.0.0.2";

/// nginx in front of `app`, with the lines for client certificates enabled.
fn proxy(app: &TestApp, authority: &Authority, verify: &str, less: &str) -> Nginx {
    let file = |name: &str, content: &str| -> PathBuf {
        let path = app.folder().join(name);
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        path
    };
    let server = file("server.pem", &authority.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth, 2100));
    let authorities = file("authorities.pem", &authority.0.pem());
    let api_tls = ApiTls { certificate: &server, key: &server, authorities: &authorities, verify };
    let (service, storage) =
        (app.url.trim_start_matches("http://").parse().unwrap(), app.folder().join("public"));
    let more = format!("proxy_bind {PROXY};");
    Nginx::start(&Settings { service, api_tls: Some(&api_tls), more: &more, less, ..Settings::new(&storage) })
}

/// Sends a request with this API key and, perhaps, a header that only nginx should send. Returns the status and the problem's
/// message.
async fn ask(client: &Client, base: &str, key: &str, said: Option<&str>) -> (u16, String) {
    let mut request = client.get(format!("{base}/pools/p")).header("X-Api-Key", key);
    if let Some(said) = said {
        request = request.header("X-Client-Verify", said);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["code"] == "UNAUTHORIZED", status == 401, "{body}");
    (status, body["message"].as_str().unwrap_or_default().to_owned())
}

const FORGED: Option<&str> = Some("SUCCESS");
const NO_CERTIFICATE: &str = "A verified client certificate is required; connect with yours";

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_reach_the_api() {
    let (authority, other) = (Authority::new(), Authority::new());
    let app = service(PROXY);
    let of = |authority: &Authority, last_year| {
        authority.issue("issuer-1", ExtendedKeyUsagePurpose::ClientAuth, last_year)
    };
    let (good, ended, foreign) = (of(&authority, 2100), of(&authority, 2020), of(&other, 2100));
    for verify in ["on", "optional"] {
        let nginx = proxy(&app, &authority, verify, "");
        let base = format!("https://{}", nginx.api);
        let known = authority.client(Some(&good));
        assert_eq!(ask(&known, &base, KEY, None).await.0, 200, "{verify}");
        let (status, message) = ask(&known, &base, "wrong", None).await;
        assert!(
            status == 401 && message.starts_with("Invalid api key"),
            "a certificate is not enough: {message}"
        );
        for (what, certificate) in
            [("none", None), ("of another authority", Some(&foreign)), ("ended", Some(&ended))]
        {
            let client = authority.client(certificate.map(String::as_str));
            for said in [None, FORGED] {
                let (status, message) = ask(&client, &base, KEY, said).await;
                assert_eq!((status, message.as_str()), (401, NO_CERTIFICATE), "{verify}, {what}, {said:?}");
            }
            // nginx never forwards a request with a bad certificate; without a certificate, `optional` leaves the decision to the service.
            let health = client.get(format!("{base}/health/live")).send().await.unwrap().status().as_u16();
            let expected = if (verify, what) == ("optional", "none") { 200 } else { 401 };
            assert_eq!(health, expected, "{verify}, {what}");
        }
        // The client's own header does not change what nginx found out.
        assert_eq!(ask(&known, &base, KEY, Some("NONE")).await.0, 200, "{verify}");
    }

    // As shipped, without TLS, nginx reports no certificate, and removes the client's header.
    let (service, storage) =
        (app.url.trim_start_matches("http://").parse().unwrap(), app.folder().join("public"));
    let more = format!("proxy_bind {PROXY};");
    let nginx = Nginx::start(&Settings { service, more: &more, ..Settings::new(&storage) });
    let (status, message) = ask(&app.client, &format!("http://{}", nginx.api), KEY, FORGED).await;
    assert_eq!((status, message.as_str()), (401, NO_CERTIFICATE));

    // A request that bypasses nginx gains nothing from the header.
    let (status, message) = ask(&app.client, &app.url, KEY, FORGED).await;
    assert_eq!((status, message.as_str()), (401, NO_CERTIFICATE));
}

#[tokio::test]
async fn control_if_nginx_did_not_set_the_header_a_client_could() {
    let authority = Authority::new();
    let app = service(PROXY);
    let less = "proxy_set_header X-Client-Verify $ssl_client_verify;";
    let nginx = proxy(&app, &authority, "optional", less);
    let client = authority.client(None);
    assert_eq!(ask(&client, &format!("https://{}", nginx.api), KEY, FORGED).await.0, 200);
}

/// Anyone who can connect from a proxy's address is taken for the proxy. So nothing else may, or must not reach the port.
#[tokio::test]
async fn control_clients_with_the_address_of_the_proxy_are_trusted() {
    let app = service("127.0.0.1");
    assert_eq!(ask(&app.client, &app.url, KEY, FORGED).await.0, 200);
    assert_eq!(ask(&app.client, &app.url, KEY, None).await.0, 401);
}

#[tokio::test]
async fn metrics_and_version_need_a_certificate_where_issuers_can_ask_for_them() {
    let trusted = service("127.0.0.1");
    let get = async |url: String, said: Option<&str>| {
        let mut request = Client::new().get(url);
        if let Some(said) = said {
            request = request.header("X-Client-Verify", said);
        }
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/metrics", "/version"] {
        assert_eq!(get(format!("{}{path}", trusted.url), None).await, 401, "{path}");
        assert_eq!(get(format!("{}{path}", trusted.url), Some("NONE")).await, 401, "{path}");
        assert_eq!(get(format!("{}{path}", trusted.url), FORGED).await, 200, "{path}, through the proxy");
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(get(format!("{}{path}", trusted.url), None).await, 200, "{path}");
    }
    let untrusted = service(PROXY);
    assert_eq!(get(format!("{}/metrics", untrusted.url), FORGED).await, 401);

    // At the operators' own address they need none.
    let (folder, port, management) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let settings = format!(
        "server: {{ management-listen: \"127.0.0.1:{management}\", trusted-proxies: [{PROXY}], \
         client-certificate: {{ header: X-Client-Verify, value: SUCCESS }} }}
status-list-pools: {{ p: {{ api-key: {KEY} }} }}"
    );
    let _process = Process::start(command(folder.path(), port, &settings), folder.path(), port);
    for path in ["/metrics", "/version"] {
        assert_eq!(get(format!("http://127.0.0.1:{management}{path}"), None).await, 200, "{path}");
        assert_eq!(get(format!("http://127.0.0.1:{port}{path}"), FORGED).await, 404, "{path}");
    }
}
