//! A model in ONNX Runtime.

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::runtime;

/// Loads the library and sets up ONNX Runtime: once a process. Its log lines go to stderr.
pub fn environment() -> Result<Environment, String> {
    let library = runtime::find().map_err(|error| error.to_string())?;
    let failed =
        |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", library.path.display());
    let builder = ort::init_from(&library.path).map_err(|error| failed(&error))?;
    builder
        .with_name("rebound")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(&error))
}

/// Loads a model from memory: one that refers to files beside it is refused by ONNX Runtime.
pub fn load(environment: &Environment, model: &[u8], threads: usize) -> Result<Session, String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let builder = Session::builder(environment).map_err(text)?;
    let builder = builder
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .map_err(text)?;
    let builder = builder.with_intra_threads(threads).map_err(text)?;
    // Waiting threads sleep: those that spin take the cores from the other recognisers of this machine.
    let builder = builder.with_intra_op_spinning(false).map_err(text)?;
    let mut builder = builder.with_inter_threads(1).map_err(text)?;
    builder.commit_from_memory(model).map_err(text)
}
