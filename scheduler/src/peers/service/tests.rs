use rebound_core::command::{Command, ENTRY_VERSION, Entry};
use rebound_core::types::{Caller as By, ClusterId, Time, TraceId};
use rebound_core::version::{Build, Versions};

use rebound_proto::v1::peer_refusal::Kind;

use super::*;
use crate::node::doors;

const CLUSTER: &str = "c-12345678";

fn config() -> Config {
    let text = "cluster = \"c\"\nserver = 1\ndata_dir = \"d\"\n[listen]\nclient = \"127.0.0.1:1\"\n\
                peer = \"127.0.0.1:2\"\nhttp = \"127.0.0.1:3\"\n";
    Config::parse(text, std::path::Path::new("c.toml")).unwrap()
}

fn founders() -> [Founder; 3] {
    [1, 2, 3].map(|id| Founder {
        incarnation: id * 10,
        ..Founder::named(ReplicaId(id))
    })
}

/// The state after these commands.
fn state(commands: impl IntoIterator<Item = Command>) -> State {
    let mut state = State::new(Plant::None);
    let first = Command::Begin {
        cluster: ClusterId(CLUSTER.into()),
        cluster_version: 1,
        settings: Box::default(),
        founders: founders().into(),
    };
    for (index, command) in (1..).zip([first].into_iter().chain(commands)) {
        let entry = Entry {
            version: ENTRY_VERSION,
            at: Time(0),
            by: By::default(),
            trace: TraceId::default(),
            command,
        };
        state.apply(index, 1, Some(&entry)).reply.unwrap();
    }
    state
}

/// Server 1's service with the roster of this state, and what the replica hears.
fn service(state: &State) -> (PeerService, crate::node::Inbox) {
    service_of(state, Versions::OURS)
}

/// The same of a build that knows these versions.
fn service_of(state: &State, knows: Versions) -> (PeerService, crate::node::Inbox) {
    let [own, ..] = founders();
    let roster = Roster::new(CLUSTER.into(), own, &founders(), state);
    let roster = Arc::new(roster.of_build(Build::new("0.1.0", knows)));
    let peers = Arc::new(Outgoing::start(roster.clone(), 1 << 20));
    let (doors, inbox) = doors();
    let api = Api::new(doors.handle.clone(), Arc::new(config()), roster.clone());
    (
        PeerService::new(&config(), roster, peers, &doors, Weak::new(), api),
        inbox,
    )
}

fn hello(from: u64) -> v1::PeerHello {
    v1::PeerHello {
        cluster: CLUSTER.into(),
        from,
        to: 1,
        incarnation: from * 10,
        protocol_min: PEER_PROTOCOL,
        protocol_max: PEER_PROTOCOL + 1,
        peer_address: format!("server-{from}:peer"),
        client_address: format!("server-{from}:client"),
        to_incarnation: 10,
        build: "0.1.0".into(),
        version_min: 1,
        version_max: 1,
        version: 1,
        boot: from * 100,
        listens: format!("listens-{from}"),
    }
}

fn why(service: &PeerService, hello: v1::PeerHello) -> String {
    service.greet(Some(hello)).unwrap_err().message().to_owned()
}

#[tokio::test]
async fn only_servers_of_the_cluster_that_mean_this_one_come_in() {
    let (service, _inbox) = service(&state([]));
    let caller = Caller {
        id: ReplicaId(2),
        incarnation: 20,
    };
    assert_eq!(service.greet(Some(hello(2))).unwrap(), caller);
    assert!(service.greet(None).unwrap_err().message().starts_with("hello: "));
    let cluster = "other".into();
    assert!(why(&service, v1::PeerHello { cluster, ..hello(2) }).starts_with("cluster: "));
    assert!(why(&service, v1::PeerHello { to: 3, ..hello(2) }).starts_with("to: this is server 1, not 3"));
    assert!(why(&service, hello(1)).starts_with("from: "));
    assert!(why(&service, hello(0)).starts_with("from: "));
}

#[tokio::test]
async fn one_from_the_future_hears_which_protocol_is_spoken_here() {
    let (service, _inbox) = service(&state([]));
    let future = v1::PeerHello {
        protocol_min: PEER_PROTOCOL + 1,
        protocol_max: PEER_PROTOCOL + 4,
        ..hello(2)
    };
    let status = service.greet(Some(future)).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        status.message(),
        "protocol: server 2 speaks peer protocol 2 to 5, server 1 speaks 1; run builds that have one in common"
    );
    assert_eq!(
        super::super::refused_for_good(&status),
        None,
        "it may be rolled back"
    );
}

#[tokio::test]
async fn one_that_lost_its_disk_or_was_removed_is_told_for_good() {
    let server = ReplicaId(3);
    let (service, mut inbox) = service(&state([Command::MemberRemove { server }, Command::MembersSettle]));
    let wiped = v1::PeerHello {
        incarnation: 99,
        ..hello(2)
    };
    let status = service.greet(Some(wiped)).unwrap_err();
    assert!(status.message().starts_with("server 2 lost its disk"), "{status}");
    assert_eq!(super::super::refused_for_good(&status), Some(Kind::OtherDisk));
    assert!(
        service.greet(Some(hello(2))).is_ok(),
        "the one it knows still comes in"
    );
    let status = service.greet(Some(hello(3))).unwrap_err();
    assert!(status.message().starts_with("server 3 was removed"), "{status}");
    assert_eq!(super::super::refused_for_good(&status), Some(Kind::Removed));
    let mut met = Vec::new();
    while let Ok(Control::Met { id, incarnation, .. }) = inbox.control.try_recv() {
        met.push((id.0, incarnation));
    }
    assert_eq!(met, [(2, 99), (2, 20), (3, 30)], "the leader shows who came");
}

#[tokio::test]
async fn a_server_added_by_entries_that_are_not_here_yet_comes_in() {
    let (service, _inbox) = service(&state([]));
    assert_eq!(service.greet(Some(hello(4))).unwrap().id, ReplicaId(4));
    let address = service.roster.peer_address(ReplicaId(4));
    assert_eq!(address.as_deref(), Some("server-4:peer"), "and can be answered");
    let wiped = v1::PeerHello {
        incarnation: 41,
        ..hello(4)
    };
    assert!(why(&service, wiped).starts_with("incarnation: server 4 came back"));
}

#[tokio::test]
async fn a_server_with_another_disk_takes_nothing_that_is_meant_for_the_lost_one() {
    let (service, _inbox) = service(&state([]));
    let meant = v1::PeerHello {
        to_incarnation: 11,
        ..hello(2)
    };
    assert!(why(&service, meant).starts_with("server 1 lost its disk"));
    let dismissed = service.roster.dismissal().borrow().clone();
    assert!(dismissed.is_some_and(|why| why.starts_with("server 1 lost its disk")));
}

#[tokio::test]
async fn a_build_that_the_cluster_has_outgrown_is_refused_by_name_and_for_good() {
    let to = rebound_core::version::NEXT;
    let knows = Versions {
        oldest: 1,
        newest: to,
    };
    let (service, mut inbox) = service_of(&state([Command::Upgrade { to }]), knows);
    let newer = |from| v1::PeerHello {
        build: "0.2.0".into(),
        version_max: to.into(),
        ..hello(from)
    };
    assert!(service.greet(Some(newer(2))).is_ok(), "it knows the version");
    let status = service.greet(Some(hello(3))).unwrap_err();
    assert_eq!(
        status.message(),
        "server 3 runs build \"0.1.0\": the cluster runs at version 2, and this build knows version 1 alone: it is too \
         old. Start a build that knows version 2; since the upgrade was finalized there is no way back to this one but \
         a backup of before"
    );
    assert_eq!(super::super::refused_for_good(&status), Some(Kind::OtherVersion));
    let said_nothing = v1::PeerHello {
        build: String::new(),
        version_min: 0,
        version_max: 0,
        ..hello(3)
    };
    assert!(
        why(&service, said_nothing).contains("knows version 1 alone"),
        "it is of before"
    );
    let Ok(Control::Met { build, .. }) = inbox.control.try_recv() else {
        panic!("who comes is heard of");
    };
    assert_eq!((build.name.as_str(), build.versions.newest), ("0.2.0", to));
}

#[tokio::test]
async fn one_that_hears_of_a_version_it_does_not_know_stops_and_says_why() {
    let (service, _inbox) = service(&state([]));
    let ours = Versions::OURS.newest;
    for said in [u32::from(ours) + 1, u32::MAX] {
        let ahead = v1::PeerHello {
            version_max: u32::MAX,
            version: said,
            ..hello(2)
        };
        assert!(why(&service, ahead).contains("this build knows"));
    }
    assert!(service.roster.is_outgrown());
    let dismissed = service.roster.dismissal().borrow().clone();
    assert!(dismissed.is_some_and(|why| why.contains("it is too old")));
}

#[tokio::test]
async fn what_a_hello_says_beyond_this_build_is_passed_over() {
    let (service, _inbox) = service(&state([]));
    // A field of a later protocol: number 900, a varint.
    let mut bytes = hello(2).encode_to_vec();
    bytes.extend([0xa0, 0x38, 0x07]);
    let read = v1::PeerHello::decode(&bytes[..]).unwrap();
    assert_eq!(service.greet(Some(read)).unwrap().id, ReplicaId(2));
    // A reason that is not known is no reason to stop for good.
    let details = v1::PeerRefusal { kind: 77 }.encode_to_vec();
    let status = Status::with_details(Code::PermissionDenied, "later", details.into());
    assert_eq!(super::super::refused_for_good(&status), None);
}

#[tokio::test]
async fn of_two_processes_with_one_disk_the_second_is_told_who_and_where() {
    let (service, _inbox) = service(&state([]));
    let come = |boot, port| {
        let hello = v1::PeerHello { boot, ..hello(2) };
        service.check(Some(hello), Some(SocketAddr::from(([127, 0, 0, 1], port))))
    };
    let (first, held) = come(7, 1001).unwrap();
    let status = come(8, 1002).err().unwrap();
    assert_eq!(status.code(), Code::Unavailable, "the first may have just ended");
    assert_eq!(super::super::refused_for_good(&status), None);
    for word in [
        "server 2",
        "127.0.0.1:1001 (it listens on listens-2)",
        "127.0.0.1:1002",
    ] {
        assert!(status.message().contains(word), "{status}");
    }
    assert!(come(7, 1003).is_ok(), "the first one's other streams");
    drop(held);
    assert_eq!(come(8, 1002).unwrap().0, first, "the first has ended");
    let proven = Twin {
        id: ReplicaId(2),
        newcomer: nobody(),
        holder: nobody(),
        proven: true,
        first: false,
    };
    assert_eq!(super::super::refused_for_good(&twin(&proven)), Some(Kind::Twin));
}
