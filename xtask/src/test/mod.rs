//! tmp
use std::process::ExitCode;
/// tmp
#[derive(clap::Args)]
pub struct TestArgs {}
/// tmp
pub fn test(_a: TestArgs) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
