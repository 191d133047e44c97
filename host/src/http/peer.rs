//! Peer of a connection: whether its user makes it the operator.

use tokio::net::UnixStream;

/// Who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A program over TCP, of which no user is known.
    Tcp,
    /// The user of this process, or root, over the control socket: the operator, without a token.
    Operator,
    /// Another user over the control socket, which somebody has opened to more than its owner.
    User(u32),
}

impl Peer {
    /// Returns the peer of a connection over the control socket. The kernel recorded its user when it connected, so
    /// neither a fork nor a change of user afterwards tells anything else (`SO_PEERCRED`).
    pub(crate) fn of(stream: &UnixStream) -> Self {
        match stream.peer_cred() {
            Ok(peer) => Self::of_user(peer.uid(), rustix::process::geteuid().as_raw()),
            // A peer that is not known has no rights.
            Err(_) => Self::Tcp,
        }
    }

    fn of_user(user: u32, own: u32) -> Self {
        if user == own || user == 0 { Self::Operator } else { Self::User(user) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_user_and_root_are_the_operator() {
        let check = |user, own| Peer::of_user(user, own);
        assert_eq!(
            (check(1_000, 1_000), check(0, 1_000), check(0, 0)),
            (Peer::Operator, Peer::Operator, Peer::Operator)
        );
        assert_eq!((check(1_001, 1_000), check(1_000, 0)), (Peer::User(1_001), Peer::User(1_000)));
    }

    #[tokio::test]
    async fn a_socket_of_this_process_has_its_user() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&ours), Peer::Operator);
    }
}
