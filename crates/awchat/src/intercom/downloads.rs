//! Files on messages, fetched from Intercom's own hosts and nowhere else: whoever can make an operator's message name
//! an address must not make this server ask there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

use crate::config;

/// Until the answer begins, and between two of its pieces.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest file.
pub const MAX_BYTES: u64 = 25 * 1024 * 1024;

/// Fetches files from Intercom's hosts.
#[derive(Clone)]
pub struct Downloads {
    http: reqwest::Client,
    hosts: config::Intercom,
}

/// Why a file is not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The address is none that is asked.
    #[error("the address of a file is not on one of INTERCOM_CDN_HOSTS")]
    Foreign,
    /// No answer, or none in time.
    #[error("the host of a file does not answer")]
    Silent,
    /// Another answer than the file.
    #[error("the host of a file answered {0}")]
    Refused(u16),
    /// It is larger than a file may be.
    #[error("a file is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

impl fmt::Debug for Downloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Downloads")
    }
}

impl Downloads {
    /// Fetches from the hosts of the configuration.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(hosts: config::Intercom) -> reqwest::Result<Self> {
        let resolver = Public { own: hosts.base_url.host_str().unwrap_or_default().to_owned() };
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .dns_resolver(Arc::new(resolver))
            .build()?;
        Ok(Self { http, hosts })
    }

    /// Begins to fetch a file; its length, if it is told, is not too much.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn fetch(&self, url: &str) -> Result<reqwest::Response, Failed> {
        let url = Url::parse(url).ok().filter(|url| is_ours(&self.hosts, url)).ok_or(Failed::Foreign)?;
        let asked = tokio::time::timeout(PATIENCE, self.http.get(url).send()).await;
        let answer = asked.map_err(|_| Failed::Silent)?.map_err(|_| Failed::Silent)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(Failed::Refused(answer.status().as_u16()));
        }
        match answer.content_length() {
            Some(len) if len > MAX_BYTES => Err(Failed::TooLarge),
            _ => Ok(answer),
        }
    }
}

/// Whether a file may be fetched from there: over https from a named host of the list, or as the API itself is reached.
fn is_ours(hosts: &config::Intercom, url: &Url) -> bool {
    if url.username() != "" || url.password().is_some() {
        return false;
    }
    let base = &hosts.base_url;
    if url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
    {
        return true;
    }
    let is_named = matches!(url.host(), Some(Host::Domain(name)) if hosts.is_cdn_host(name));
    url.scheme() == "https" && url.port().is_none() && is_named
}

/// Resolves names to addresses of the public internet; a connection goes to what was looked at. Our own API's host may
/// be anywhere.
struct Public {
    own: String,
}

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let is_own = name.as_str() == self.own;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| is_own || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public internet's: not of this machine, of a private or a special network.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast, without what stands for v4 addresses (6to4, Teredo, NAT64) or for nobody (documentation).
    let is_tunnel = segments[0] == 0x2002 || (segments[0] == 0x2001 && segments[1] < 0x200);
    let is_documentation = segments[0] == 0x2001 && segments[1] == 0x0db8;
    segments[0] & 0xe000 == 0x2000 && !is_tunnel && !is_documentation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn hosts() -> config::Intercom {
        let set = |name: &str| match name {
            "INTERCOM_BASE_URL" => Some("http://127.0.0.1:4000".to_owned()),
            "INTERCOM_CDN_HOSTS" => Some("*.intercomcdn.com,files.example.com,10.0.0.1".to_owned()),
            _ => None,
        };
        Config::for_tests(&set).intercom
    }

    #[test]
    fn a_file_is_fetched_from_the_hosts_of_the_list_alone() {
        let hosts = hosts();
        let may = |url: &str| is_ours(&hosts, &Url::parse(url).expect("an address"));
        for good in [
            "https://downloads.intercomcdn.com/i/o/1/a.png?expires=1&signature=x",
            "https://files.example.com/a",
            "https://FILES.example.com:443/a",
            "http://127.0.0.1:4000/i/o/1/a.png",
        ] {
            assert!(may(good), "{good}");
        }
        for bad in [
            "http://downloads.intercomcdn.com/a",
            "https://downloads.intercomcdn.com:8443/a",
            "https://intercomcdn.com.evil.example/a",
            "https://evilintercomcdn.com/a",
            "https://a@files.example.com/a",
            "https://files.example.com@evil.example/a",
            "https://10.0.0.1/a",
            "http://127.0.0.1:4001/a",
            "https://127.0.0.1/a",
            "http://169.254.169.254/latest/meta-data",
            "https://[::1]/a",
            "file:///etc/passwd",
            "ftp://files.example.com/a",
        ] {
            assert!(!may(bad), "{bad}");
        }
    }

    #[test]
    fn names_lead_to_public_addresses_only() {
        for good in ["93.184.216.34", "1.1.1.1", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:1.1.1.1"] {
            assert!(is_public(good.parse().expect("an address")), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "::7f00:1",
        ] {
            assert!(!is_public(bad.parse().expect("an address")), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_of_the_list_that_leads_home_is_not_asked() {
        let set = |name: &str| (name == "INTERCOM_CDN_HOSTS").then(|| "localhost".to_owned());
        let downloads = Downloads::new(Config::for_tests(&set).intercom).expect("a client");
        assert_eq!(downloads.fetch("https://localhost/a").await.err(), Some(Failed::Silent));
        assert_eq!(downloads.fetch("https://elsewhere.example/a").await.err(), Some(Failed::Foreign));
    }
}
