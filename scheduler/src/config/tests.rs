use super::*;

const GOOD: &str = r#"cluster = "shelves"
server = 2
data_dir = "data/2"

[listen]
client = "127.0.0.1:7402"
peer = "127.0.0.1:7502"
http = "127.0.0.1:7602"

[log]
keep = 200
archive = true

[[members]]
id = 1
peer = "127.0.0.1:7501"
client = "127.0.0.1:7401"

[[members]]
id = 2
peer = "127.0.0.1:7502"
client = "127.0.0.1:7402"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("server.toml"))
}

#[track_caller]
fn fault(from: &str, to: &str, expected: &str) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD);
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_good_one_is_read_and_written_again() {
    let config = parse(GOOD).unwrap();
    assert_eq!(
        (config.server, config.log.keep, config.log.archive),
        (2, 200, true)
    );
    assert_eq!(config.founders()[0].client, "127.0.0.1:7401");
    assert_eq!(config.own().peer, "127.0.0.1:7502");
    assert_eq!(parse(&config.to_toml()).unwrap(), config);
}

#[test]
fn each_fault_names_file_line_and_field() {
    fault(
        "server = 2",
        "server = 3",
        "server.toml:2: server: 3 is not in the member list",
    );
    fault(
        "server = 2",
        "server = \"x\"",
        "server.toml:2: server: invalid type",
    );
    fault("server = 2", "server = ", "server.toml:2: syntax: ");
    fault("server = 2\n", "", "server.toml:1: server: is missing; add it");
    fault(
        "http = \"127.0.0.1:7602\"\n",
        "",
        "server.toml:5: listen.http: is missing; add it",
    );
    fault(
        "id = 1\n",
        "",
        "server.toml:14: members[0].id: is missing; add it",
    );
    fault(
        "keep = 200",
        "keeps = 200",
        "server.toml:11: log.keeps: unknown field `keeps`, expected",
    );
    fault(
        "keep = 200",
        "keep = 3",
        "server.toml:11: log.keep: 3 must be 16 to",
    );
    fault(
        "\"shelves\"",
        "\"Shelves EU\"",
        "server.toml:1: cluster: must be 1 to 55",
    );
    fault(
        "127.0.0.1:7602",
        "0.0.0.0:7602",
        "server.toml:8: listen.http: 0.0.0.0:7602 is not this machine's loopback",
    );
    fault(
        "127.0.0.1:7602",
        "127.0.0.1:0",
        "server.toml:8: listen.http: \"127.0.0.1:0\" has port 0",
    );
    fault(
        "127.0.0.1:7602",
        "127.0.0.1",
        "server.toml:8: listen.http: \"127.0.0.1\" is no host:port",
    );
    fault(
        "127.0.0.1:7501",
        "10.1.2.3:7501",
        "server.toml:16: members[0].peer: 10.1.2.3:7501 is not",
    );
    fault(
        "id = 2",
        "id = 1",
        "server.toml:20: members[1].id: 1 is 0 or there twice",
    );
}

#[test]
fn a_plant_must_be_known_to_the_build() {
    fault(
        "server = 2",
        "server = 2\nplant = \"no-such-bug\"",
        "server.toml:3: plant: this build knows no planted bug",
    );
}

#[test]
fn the_cluster_id_is_that_of_name_and_members() {
    let config = parse(GOOD).unwrap();
    let id = config.cluster_id();
    assert!(
        id.0.starts_with("shelves-") && id.0.len() == "shelves-".len() + 8,
        "{id}"
    );
    let mut other = config.clone();
    other.server = 1;
    other.members.reverse();
    assert_eq!(
        other.cluster_id(),
        id,
        "neither the order nor whose file it is matters"
    );
    other.members[0].peer = "127.0.0.1:7503".to_owned();
    assert_ne!(other.cluster_id(), id);
}
