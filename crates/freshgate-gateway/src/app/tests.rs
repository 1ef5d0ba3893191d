//! What people read when the parts around Streamlit are not there: of real failures, not of made-up ones.

use std::{fs, path::Path};

use super::*;
use crate::config::Look;

/// The problem as people read it, with names that are another each time replaced.
#[track_caller]
fn shown(problem: &StartupProblem, names: &[(&Path, &str)]) -> String {
    let mut text = problem.render(Look::Plain);
    for (path, name) in names {
        text = text.replace(&path.display().to_string(), name);
    }
    assert!(text.contains("= help: "), "there is no mend:\n{text}");
    text
}

/// A program that pretends to be Python.
fn program(folder: &Path, script: &str) -> Python {
    use std::os::unix::fs::PermissionsExt;

    let path = folder.join("python");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Python { path }
}

#[tokio::test]
async fn python_that_cannot_run_streamlit() {
    let folder = tempfile::tempdir().unwrap();
    let module = ModuleDirectory::create().unwrap();
    let of = async |python: Python| match python.check_streamlit(&module).await {
        Ok(()) => panic!("there is nothing wrong with it"),
        Err(error) => shown(&launch_problem(&error), &[(folder.path(), "/folder")]),
    };
    insta::assert_snapshot!("python_is_not_there", of(Python { path: folder.path().join("nothing") }).await);
    insta::assert_snapshot!("python_is_a_folder", of(Python { path: folder.path().to_owned() }).await);
    let says = "printf 'Streamlit is not installed for /venv/python\\nInstall it: /venv/python -m pip install streamlit\\n'; exit 2";
    insta::assert_snapshot!("python_has_no_streamlit", of(program(folder.path(), says)).await);
    let fails = "echo Traceback >&2; echo 'SyntaxError: invalid syntax' >&2; exit 1";
    insta::assert_snapshot!("python_is_something_else", of(program(folder.path(), fails)).await);
    insta::assert_snapshot!("python_is_killed", of(program(folder.path(), "kill -9 $$")).await);

    assert!(program(folder.path(), "exit 0").check_streamlit(&module).await.is_ok());
}

#[test]
fn streamlit_cannot_be_launched() {
    let colon = std::env::join_paths(["/a:b"]).unwrap_err();
    insta::assert_snapshot!(
        "python_path_has_a_colon",
        shown(&launch_problem(&LaunchError::PythonPath(colon)), &[])
    );
    let none_left = io::Error::from(io::ErrorKind::AddrInUse);
    insta::assert_snapshot!("no_port_is_left", shown(&launch_problem(&LaunchError::NoPort(none_left)), &[]));
}

#[test]
fn the_module_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let source = fs::create_dir(file.join("module")).unwrap_err();
    let error = ModuleError { path: file.clone(), source };
    insta::assert_snapshot!(
        "module_cannot_be_written",
        shown(&module_problem(&error), &[(folder.path(), "/folder")])
    );
}

#[tokio::test]
async fn the_development_provider_cannot_start() {
    use clap::Parser as _;

    use crate::{
        cli::{Cli, Command},
        config::{self, Environment},
    };

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.py"), "").unwrap();
    let config = |provider_listen: &str| {
        let arguments = ["freshgate", "dev", "app.py", "--provider-listen", provider_listen];
        let Ok(Cli { command: Command::Dev(dev) }) = Cli::try_parse_from(arguments) else { panic!("good") };
        let environment = Environment::new(folder.path().to_owned(), None, []);
        config::load_dev(&dev, &environment).unwrap_or_else(|report| panic!("{report:?}")).0
    };
    let problem = async |config: DevConfig| match start_provider(&config).await {
        Ok(_) => panic!("it starts"),
        Err(problem) => shown(&problem, &[(folder.path(), "/folder")]),
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    insta::assert_snapshot!(
        "dev_provider_is_taken",
        problem(config(&address)).await.replace(&address, "127.0.0.1:PORT")
    );
    let state = folder.path().join(".freshgate/dev/provider.json");
    fs::write(&state, "not ours").unwrap();
    insta::assert_snapshot!("dev_provider_state_is_damaged", problem(config("127.0.0.1:0")).await);
    fs::remove_dir_all(folder.path().join(".freshgate")).unwrap();
    fs::write(folder.path().join(".freshgate"), "").unwrap();
    insta::assert_snapshot!("dev_folder_is_a_file", problem(config("127.0.0.1:0")).await);
}
