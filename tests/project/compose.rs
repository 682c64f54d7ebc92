//! `docker/compose.yaml`, for users, has the servers that are tested.

use std::collections::BTreeMap;
use std::path::Path;

use serde_yaml_ng::Value;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).expect("the file is there")
}

/// Name to version: the first line of a name counts.
fn tested() -> BTreeMap<String, String> {
    let mut tested = BTreeMap::new();
    for line in read("tests/servers/versions").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [name, version, ..] if !name.starts_with('#') => {
                tested.entry(name.to_owned()).or_insert(version.to_owned());
            }
            _ => {}
        }
    }
    tested
}

fn services() -> BTreeMap<String, Value> {
    let compose: Value = serde_yaml_ng::from_str(&read("docker/compose.yaml")).expect("YAML");
    serde_yaml_ng::from_value(compose["services"].clone()).expect("services")
}

#[test]
fn compose_has_every_tested_server_in_the_tested_version() {
    let (services, tested) = (services(), tested());
    assert_eq!(
        services.keys().collect::<Vec<_>>(),
        tested.keys().collect::<Vec<_>>()
    );
    for (name, version) in tested {
        let image = services[&name]["image"].as_str().expect("an image");
        let (repository, tag) = image.split_once(':').expect("a pinned image");
        assert_eq!(repository, name);
        assert!(
            tag == version || tag.starts_with(&format!("{version}.")),
            "{image} is not the tested {name} {version}"
        );
    }
}

#[test]
fn compose_is_for_this_machine_alone_and_has_passwords_and_healthchecks() {
    for (name, service) in services() {
        assert!(service["healthcheck"]["test"].is_sequence(), "{name}");
        assert!(service["tmpfs"].is_sequence(), "{name}");
        for port in service["ports"].as_sequence().expect("ports") {
            let port = port.as_str().expect("a text");
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
            let (host, container) = port["127.0.0.1:".len()..].split_once(':').expect("a pair");
            assert_ne!(host, container, "{name}: clashes with a server of its own");
        }
        let environment = serde_yaml_ng::to_string(&service["environment"]).expect("environment");
        assert!(environment.contains("PASSWORD"), "{name}");
        assert!(!environment.contains("ALLOW_EMPTY"), "{name}");
    }
}

#[test]
fn the_addresses_of_the_containers_are_those_that_tests_and_users_are_given() {
    let pages = ["justfile", "env.example", "tests/README.md"].map(read);
    for (name, service) in services() {
        let port = service["ports"][0].as_str().expect("a text");
        let port = port.split(':').nth(1).expect("the port of this machine");
        for page in &pages {
            assert!(page.contains(port), "{name}: {port}");
        }
    }
}
