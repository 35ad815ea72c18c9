//! Compiles `rebound/v1/*.proto` with protox (pure Rust): no `protoc` on the machine is needed.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 5] = ["common", "client", "agent", "peer", "fleet"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = Vec::new();
    for file in FILES {
        let path = format!("rebound/v1/{file}.proto");
        // A path that does not exist would make cargo rebuild everything each time.
        assert!(Path::new(&path).exists(), "{path} is missing");
        println!("cargo:rerun-if-changed={path}");
        paths.push(path);
    }
    let descriptors = protox::compile(&paths, ["."])?;
    tonic_prost_build::configure()
        .bytes(".rebound.v1")
        .client_mod_attribute("rebound.v1", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute("rebound.v1", "#[cfg(feature = \"grpc\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
