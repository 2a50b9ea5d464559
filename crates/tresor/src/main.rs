//! The one binary: client and server. Called `vault`, it says which level of that API it speaks.
//!
//! Deliberately absent: everything. Arguments are the CLI's, behaviour the server's.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;
use tresor_cli::{
    DiagnosisArguments, Environment, Harmless, Hosted, ImportArguments, Io, MigrationArguments, ServerArguments,
};

/// The system's allocator takes a seventh of the processor's time of a request, mostly for putting free pieces together
/// again; this one takes a third of that, and gives memory back. Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let environment = Environment::of_process();
    let code = tresor_cli::run(arguments, &mut Io::of_process(), &environment, &mut |asked| match asked {
        Hosted::Server(server) => serve(server, &environment),
        Hosted::Diagnosis(diagnosis) => diagnose(diagnosis),
        Hosted::Migration(migration) => migrate(migration),
        Hosted::Import(import) => import_secrets(import),
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn serve(given: ServerArguments, environment: &Environment) -> i32 {
    let arguments = tresor_server::Arguments {
        config: given.config,
        dev: given.dev,
        dev_root_token_id: given.dev_root_token_id,
        dev_listen_address: given.dev_listen_address,
        dev_no_store_token: given.dev_no_store_token,
        dev_tls: given.dev_tls,
        dev_tls_cert_dir: given.dev_tls_cert_dir,
        dev_nodes: given.dev_nodes,
        dev_cluster_json: given.dev_cluster_json,
        dev_kv_v1: given.dev_kv_v1,
        dev_allow_non_loopback: given.dev_allow_non_loopback,
        recovery: given.recovery,
        exit_on_core_shutdown: given.exit_on_core_shutdown,
        experiments: given.experiments,
        log_level: given.log_level,
        log_format: given.log_format,
        log_file: given.log_file,
    };
    let (mut output, mut errors) = (Harmless::over(std::io::stdout()), Harmless::over(std::io::stderr()));
    let mut streams = tresor_server::Streams { output: &mut output, errors: &mut errors };
    tresor_server::run(&arguments, &|token| tresor_cli::store_token(environment, token), &mut streams)
}

fn diagnose(given: DiagnosisArguments) -> i32 {
    let DiagnosisArguments { config, skip, only_config, json, colours } = given;
    let wanted = tresor_server::Diagnosis { config, skip, only_config, json, colours };
    tresor_server::diagnose(&wanted, &mut std::io::stdout())
}

fn migrate(given: MigrationArguments) -> i32 {
    let MigrationArguments { config, reset, start, log_level } = given;
    let wanted = tresor_server::Migration { config, reset, start, log_level };
    tresor_server::migrate(&wanted, &mut Harmless::over(std::io::stdout()), &mut Harmless::over(std::io::stderr()))
}

fn import_secrets(given: ImportArguments) -> i32 {
    let ImportArguments { config, applies, is_approved, may_ask, client } = given;
    let wanted = tresor_server::Import { config, applies, is_approved, client };
    let mut approve = || {
        if !may_ask {
            return false;
        }
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"Import these secrets? Only `yes` is taken: "));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).is_ok() && line.trim() == "yes"
    };
    tresor_server::import(
        wanted,
        &mut tresor_server::ImportStreams {
            output: &mut Harmless::over(std::io::stdout()),
            errors: &mut Harmless::over(std::io::stderr()),
            approve: &mut approve,
        },
    )
}
