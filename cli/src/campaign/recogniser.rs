//! A recogniser that is a line of shell.

use std::path::Path;

use crate::bench::load::Photos;
use crate::exit::Failure;
use crate::local::Layout;
use crate::spec::file_uri;

/// Agents offer one of this name that runs the line for each photo and then answers `null`. Answers the photo that all
/// are. The line goes between quotes as it is.
pub fn shell(layout: &mut Layout, dir: &Path, name: &str, line: &str) -> Result<Photos, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", dir.display()));
    let all = dir.join("recognisers");
    let folder = all.join(name);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let manifest = format!(
        "format = 1\nname = \"{name}\"\nkind = \"command\"\n\n[command]\nprogram = [\"/bin/sh\", \"-c\", \"{line}; echo null\"]\n"
    );
    std::fs::write(folder.join("manifest.toml"), manifest).map_err(failed)?;
    let photo = dir.join("photo.jpg");
    std::fs::write(&photo, b"no program looks at it").map_err(failed)?;
    layout.recogniser = Some((all, name.to_owned()));
    Ok(Photos::Same(file_uri(&photo)))
}
