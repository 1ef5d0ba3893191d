//! What keeps the program from starting is told in one start, and not one by one.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    thread,
};

use crate::program::Program;

/// A web server that has nothing, for as long as the test runs.
fn nothing_here() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

#[test]
fn port_store_provider_and_streamlit_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let provider_port = nothing_here();
    let program = Program::new("bare");
    let store = program.folder().join("notes.txt");
    fs::write(&store, "these are notes, and no database\n".repeat(100)).unwrap();
    let said = program
        .variable("FRESHGATE_LISTEN", &format!("127.0.0.1:{taken_port}"))
        .variable("FRESHGATE_OPERATOR_LISTEN", &format!("127.0.0.1:{taken_port}"))
        .variable("FRESHGATE_STORE", &format!("sqlite:{}", store.display()))
        .variable(
            "FRESHGATE_SERVER_METADATA_URL",
            &format!("http://127.0.0.1:{provider_port}/.well-known/openid-configuration"),
        )
        .refusal();

    let said = said
        .replace(&format!(":{taken_port}"), ":PORT")
        .replace(&format!(":{provider_port}"), ":PROVIDER")
        .replace(&python(), "/path/to/python")
        .replace(env!("CARGO_MANIFEST_DIR"), "/crate");
    insta::assert_snapshot!("all_at_once", said);
}

/// What Python says that it is.
fn python() -> String {
    let said = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_folder_for_temporary_files_that_does_not_do() {
    for (name, folder) in [
        ("tmpdir_is_too_long", &*"x".repeat(120)),
        ("tmpdir_has_a_colon", "a:b"),
        ("tmpdir_is_not_there", "gone"),
    ] {
        let program = Program::new("");
        let tmpdir = program.folder().join(folder);
        if folder != "gone" {
            fs::create_dir(&tmpdir).unwrap();
        }
        let said = program.variable("TMPDIR", &tmpdir.display().to_string()).refusal();
        insta::assert_snapshot!(name, without_random_names(&said));
    }
}

/// The private directory has another name each time.
fn without_random_names(said: &str) -> String {
    let mut parts = said.split("/freshgate-");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        text.push_str("/freshgate-RANDOM");
        text.push_str(&part[6..]);
    }
    text
}
