//! Which Python runs the app: the one that the user would get by typing `streamlit run`.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::{LaunchError, ModuleDirectory};

/// How long Python may take to say whether it has Streamlit; a tenth of a second is usual.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// A Python interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// Its program.
    pub path: PathBuf,
}

/// No Python was found.
#[derive(Debug, thiserror::Error)]
#[error("no Python interpreter was found")]
pub struct PythonNotFound;

impl Python {
    /// The interpreter that `named` says, else that of the active virtual environment, else that of the `streamlit`
    /// command beside this program (both installed by pip) or on the search path, else `python3` or `python` of the
    /// search path.
    pub fn find(named: Option<&Path>) -> Result<Self, PythonNotFound> {
        let virtual_env = env::var_os("VIRTUAL_ENV").map(PathBuf::from);
        let program = env::current_exe().ok();
        let beside = program.as_deref().and_then(Path::parent);
        Self::find_in(named, virtual_env.as_deref(), beside, &search_path()).ok_or(PythonNotFound)
    }

    fn find_in(
        named: Option<&Path>,
        virtual_env: Option<&Path>,
        beside: Option<&Path>,
        search_path: &[PathBuf],
    ) -> Option<Self> {
        let on_path =
            |name: &str| search_path.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        named
            .map(Path::to_owned)
            .or_else(|| virtual_env.map(|venv| venv.join("bin/python")).filter(|path| path.is_file()))
            .or_else(|| interpreter_of_script(&beside?.join("streamlit")))
            .or_else(|| interpreter_of_script(&on_path("streamlit")?))
            .or_else(|| on_path("python3"))
            .or_else(|| on_path("python"))
            .map(|path| Self { path })
    }
}

impl Python {
    /// `python -m freshgate`, with our module on its path and without the gate's own settings.
    pub(crate) fn with_module(&self, module: &ModuleDirectory) -> Result<Command, LaunchError> {
        let mut python_path = vec![module.python_path()];
        if let Some(inherited) = env::var_os("PYTHONPATH") {
            python_path.extend(env::split_paths(&inherited));
        }
        let python_path = env::join_paths(python_path).map_err(LaunchError::PythonPath)?;
        let mut command = Command::new(&self.path);
        // Settings of the gate, secrets among them. The app has no use for them.
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"FRESHGATE_") {
                command.env_remove(name);
            }
        }
        command
            .args(["-m", "freshgate"])
            .env("PYTHONPATH", python_path)
            // The terminal is the gate's: an app that reads from it would be stopped for good, without a word.
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Looks whether this Python has a Streamlit that we can run, without starting it. Dropping the future ends the look.
    pub async fn check_streamlit(&self, module: &ModuleDirectory) -> Result<(), LaunchError> {
        let mut command = self.with_module(module)?;
        command.arg("--check").kill_on_drop(true);
        let Ok(answered) = tokio::time::timeout(CHECK_TIMEOUT, command.output()).await else {
            // It may be slow and good; if it is not, starting it will show.
            tracing::warn!(python = %self.path.display(), "Python takes long to say whether it has Streamlit");
            return Ok(());
        };
        let answer = answered.map_err(|source| LaunchError::Spawn { python: self.path.clone(), source })?;
        if answer.status.success() {
            return Ok(());
        }
        let (said, complained) =
            (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
        let (what, mend) = match said.lines().collect::<Vec<_>>()[..] {
            [what, mend] => (what.to_owned(), mend.to_owned()),
            // Not our module's words: it was not even loaded.
            _ => (
                complained.lines().next_back().map_or_else(|| answer.status.to_string(), str::to_owned),
                "name the interpreter that has Streamlit: `--python .venv/bin/python`".to_owned(),
            ),
        };
        Err(LaunchError::Unusable { python: self.path.clone(), what, mend })
    }
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// The interpreter in a script's first line, if that is a Python: `#!/path/to/python3`. A shim of a version manager is a
/// shell script and names none.
fn interpreter_of_script(script: &Path) -> Option<PathBuf> {
    let mut first_line = String::new();
    BufReader::new(fs::File::open(script).ok()?).read_line(&mut first_line).ok()?;
    let interpreter = Path::new(first_line.strip_prefix("#!")?.trim());
    let is_python = interpreter.file_name()?.to_str()?.starts_with("python");
    (is_python && interpreter.is_file()).then(|| interpreter.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_python_that_runs_streamlit() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let venv_python = file("venv/bin/python", "");
        let tool_python = file("tool/bin/python3.12", "");
        file("a/streamlit", &format!("#!{}\nimport sys\n", tool_python.display()));
        file("shim/streamlit", "#!/usr/bin/env bash\nexec pyenv\n");
        let plain_python = file("b/python3", "");
        let folder = |name: &str| root.path().join(name);
        let beside = folder("beside");
        let found_beside = |named, venv: Option<&Path>, beside: Option<&Path>, path: &[PathBuf]| {
            Python::find_in(named, venv, beside, path).map(|it| it.path)
        };
        let found =
            |named, venv: Option<&Path>, path: &[PathBuf]| found_beside(named, venv, Some(&beside), path);

        assert_eq!(
            found(Some(Path::new("/my/python")), None, &[]),
            Some("/my/python".into()),
            "what is named wins"
        );
        assert_eq!(found(None, Some(&folder("venv")), &[folder("a")]), Some(venv_python));
        assert_eq!(found(None, Some(&folder("gone")), &[folder("a"), folder("b")]), Some(tool_python));
        assert_eq!(found(None, None, &[folder("shim"), folder("b")]), Some(plain_python));
        assert_eq!(found(None, None, &[folder("nothing")]), None);

        let neighbour = file("beside/python3", "");
        file("beside/streamlit", &format!("#!{}\n", neighbour.display()));
        assert_eq!(found(None, None, &[folder("a")]), Some(neighbour), "pip installed both");
        assert_eq!(
            found(None, Some(&folder("venv")), &[]),
            Some(folder("venv/bin/python")),
            "what is active wins"
        );
    }
}
