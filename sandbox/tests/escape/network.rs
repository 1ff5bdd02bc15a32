//! What is reached: without a grant, nothing.

use std::net::{TcpListener, UdpSocket};

use crate::place::{Place, text};

attacks![nothing_outside_is_reached, the_gateways_own_ports_are_not_reached, names_are_not_resolved];

///
async fn nothing_outside_is_reached(place: Place) {
    for (way, address, port) in [
        ("tcp", "1.1.1.1", "443"),
        ("tcp", "169.254.169.254", "80"),
        ("tcp", "10.0.0.1", "80"),
        ("tcp", "2606:4700:4700::1111", "443"),
        ("udp", "1.1.1.1", "53"),
        ("udp", "2606:4700:4700::1111", "53"),
    ] {
        let seen = place.attack(&[way, address, port]).await;
        let unreachable =
            [libc::ENETUNREACH, libc::EADDRNOTAVAIL, libc::EHOSTUNREACH].map(|errno| format!("refused {errno}"));
        assert!(unreachable.contains(&seen), "{way} {address}: {seen}");
    }
    let links = place.shell("cat /proc/net/dev | tail -n +3 | cut -d: -f1").await;
    let links = text(&links);
    assert!(
        links.lines().map(str::trim).all(|name| name == "lo" || name.starts_with("sit") || name.starts_with("tunl")),
        "{links}"
    );
}

///
async fn the_gateways_own_ports_are_not_reached(place: Place) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    assert_eq!(place.attack(&["tcp", "127.0.0.1", &port]).await, format!("refused {}", libc::ECONNREFUSED));
    assert_eq!(place.outside(&["tcp", "127.0.0.1", &port]), "done 0", "it is there");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    let _ = place.attack(&["udp", "127.0.0.1", &port]).await;
    assert!(udp.recv(&mut [0; 8]).is_err(), "nothing came");
    assert_eq!(place.outside(&["udp", "127.0.0.1", &port]), "done 0");
    udp.set_nonblocking(false).unwrap();
    assert_eq!(udp.recv(&mut [0; 8]).unwrap(), 1);
    // By the proxy's port neither: nobody listens there in a run without a grant.
    assert_eq!(place.attack(&["tcp", "127.0.0.1", "3128"]).await, format!("refused {}", libc::ECONNREFUSED));
    assert_ne!(place.shell("test -e /run/egress.sock").await.exit_code, 0);
    let names = place.shell("env | grep -ci proxy").await;
    assert_eq!(text(&names), "0");
}

///
async fn names_are_not_resolved(place: Place) {
    assert_ne!(place.shell("getent hosts example.com || nslookup example.com").await.exit_code, 0);
    assert_eq!(place.shell("grep -q localhost /etc/hosts").await.exit_code, 0);
}
