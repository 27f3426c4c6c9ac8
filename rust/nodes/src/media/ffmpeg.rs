//! One run of the `ffmpeg` executable.
//!
//! It gets its input through a pipe or as a file of a private folder, may take a bounded time, may write a bounded
//! number of bytes, and is ended when the run is interrupted. Files from outside are only ever opened as one of the
//! containers in [`CONTAINERS`]: others (playlists, scripts) could name further files.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rushlight_runtime::{CancelToken, NodeError};

use super::find;

/// Containers that files from outside may have, as `ffmpeg` names them.
pub(crate) const CONTAINERS: &str = "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,gif,matroska,webm,mov,mp4,m4a,\
                                     3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,ogg,oma,rm,tta,voc,w64,wav,wv";
/// How often limits and interrupts are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of its messages that are kept.
const MESSAGES: usize = 4096;
/// Bytes that are moved at a time.
const PIECE: usize = 1 << 16;

/// Writes what goes to the standard input.
pub(crate) type Input<'a> = &'a mut (dyn FnMut(&mut dyn Write) -> io::Result<()> + Send);
/// Takes what comes from the standard output.
pub(crate) type Output<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), NodeError>;

/// One run of the executable.
pub(crate) struct Run<'a> {
    /// What it is for, for messages: `encoding H.264`.
    pub(crate) what: &'a str,
    /// Arguments behind those that every run has.
    pub(crate) arguments: Vec<OsString>,
    /// How long it may take.
    pub(crate) time: Duration,
    /// Bytes that may come from its standard output.
    pub(crate) output: u64,
    /// Ends it.
    pub(crate) cancel: &'a CancelToken,
}

/// What a client is told where there is no executable.
pub(crate) fn absent(what: &str) -> NodeError {
    NodeError::new(
        "FileNotFoundError",
        format!(
            "{what} needs an ffmpeg executable: install ffmpeg, or name one by the environment variable {}",
            find::VARIABLE
        ),
    )
}

/// The error of a run that read a file from outside: where the executable failed, the file is to blame.
pub(crate) fn blame(error: NodeError, file: impl FnOnce(&NodeError) -> NodeError) -> NodeError {
    match &error {
        NodeError::Failed { exception_type, .. } if exception_type == "OSError" => file(&error),
        _ => error,
    }
}

/// Arguments out of texts and paths.
pub(crate) fn arguments<const N: usize>(arguments: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect()
}

impl Run<'_> {
    /// Runs the executable to its end.
    ///
    /// # Errors
    /// `FileNotFoundError` without an executable, `TimeoutError` and `MemoryError` beyond the limits, `OSError` with its
    /// last messages when it fails, [`NodeError::Interrupted`], and what `output` returns.
    pub(crate) fn run(self, input: Input<'_>, output: Output<'_>) -> Result<(), NodeError> {
        let path = find::ffmpeg().ok_or_else(|| absent(self.what))?;
        self.run_with(path, input, output)
    }

    fn run_with(self, path: &Path, input: Input<'_>, output: Output<'_>) -> Result<(), NodeError> {
        self.cancel.check()?;
        let broken = |reason: String| NodeError::new("OSError", format!("{}: ffmpeg {reason}", self.what));
        let mut child = self.spawn(path).map_err(|error| broken(format!("does not start: {error}")))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(broken("has no pipes".into()));
        };
        let child = Mutex::new(child);
        let over = AtomicBool::new(false);
        let (read, written, messages, stopped, status) = thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut stdin = BufWriter::with_capacity(PIECE, stdin);
                input(&mut stdin).and_then(|()| stdin.flush())
            });
            let messages = scope.spawn(move || last_bytes(stderr));
            let watcher = scope.spawn(|| self.watch(&child, &over));
            let read = self.read(&mut stdout, output);
            // It may not write on to a pipe that nobody reads.
            drop(stdout);
            if read.is_err() {
                let _ = child.lock().kill();
            }
            let status = wait(&child);
            over.store(true, Ordering::Release);
            // A thread that panicked has written or read nothing of use.
            let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer failed")));
            let messages = messages.join().unwrap_or_default();
            (read, written, messages, watcher.join().ok().flatten(), status)
        });
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        read?;
        let status = status.map_err(|error| broken(format!("cannot be waited for: {error}")))?;
        if !status.success() {
            return Err(broken(format!("failed ({status}): {}", messages.trim())));
        }
        // It may well end without having read everything; other errors are those of what was to be written.
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(broken(format!("got no input: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn spawn(&self, path: &Path) -> io::Result<Child> {
        let mut command = Command::new(path);
        command
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"])
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(windows)]
        {
            use std::os::windows::process::CommandExt;
            // No console window of its own.
            command.creation_flags(0x0800_0000);
        }
        command.spawn()
    }

    /// Ends the process at the first limit that is reached, and says which it was.
    fn watch(&self, child: &Mutex<Child>, over: &AtomicBool) -> Option<NodeError> {
        let start = Instant::now();
        while !over.load(Ordering::Acquire) {
            let stopped = if self.cancel.is_cancelled() {
                Some(NodeError::Interrupted)
            } else if start.elapsed() > self.time {
                Some(NodeError::new(
                    "TimeoutError",
                    format!("{}: ffmpeg took longer than {} seconds", self.what, self.time.as_secs_f32()),
                ))
            } else {
                None
            };
            if stopped.is_some() {
                let _ = child.lock().kill();
                return stopped;
            }
            thread::sleep(LOOK);
        }
        None
    }

    fn read(&self, stdout: &mut impl Read, output: Output<'_>) -> Result<(), NodeError> {
        let mut piece = vec![0; PIECE];
        let mut total = 0u64;
        loop {
            let count = match stdout.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(NodeError::new("OSError", format!("{}: {error}", self.what))),
            };
            total += count as u64;
            if total > self.output {
                return Err(NodeError::new(
                    "MemoryError",
                    format!("{}: ffmpeg wrote more than {} bytes", self.what, self.output),
                ));
            }
            output(piece.get(..count).unwrap_or_default())?;
        }
    }
}

/// Waits for the end without keeping the process from being ended meanwhile.
fn wait(child: &Mutex<Child>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.lock().try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The end of what a stream says.
fn last_bytes(mut stream: impl Read) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        if kept.len() > MESSAGES {
            kept.drain(..kept.len() - MESSAGES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A folder of one run's own, for formats whose files are read or written out of order; gone when dropped.
pub(crate) struct Workspace(tempfile::TempDir);

impl Workspace {
    /// An empty folder that only this user may open.
    ///
    /// # Errors
    /// `OSError` when there is no place for it.
    pub(crate) fn new() -> Result<Self, NodeError> {
        let folder = tempfile::Builder::new().prefix("rushlight-").tempdir();
        folder.map(Self).map_err(|error| NodeError::new("OSError", format!("no temporary folder: {error}")))
    }

    /// Where a file of that name lies. `name` is one of ours, never one from outside.
    pub(crate) fn path(&self, name: &'static str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// `OSError` when the disk does not take it.
    pub(crate) fn write(&self, name: &'static str, bytes: &[u8]) -> Result<PathBuf, NodeError> {
        let path = self.path(name);
        std::fs::write(&path, bytes)
            .map_err(|error| NodeError::new("OSError", format!("{name}: {error}")))?;
        Ok(path)
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// `MemoryError` beyond the limit, `OSError` when it is not there.
    pub(crate) fn read(&self, name: &'static str, limit: u64) -> Result<Vec<u8>, NodeError> {
        let failed = |error: io::Error| NodeError::new("OSError", format!("{name}: {error}"));
        let mut file = std::fs::File::open(self.path(name)).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length > limit {
            return Err(NodeError::new(
                "MemoryError",
                format!("{name} has {length} bytes, the limit is {limit}"),
            ));
        }
        crate::memory::check_bytes(name, length)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// A script in the place of the executable.
    fn run(script: &str, change: impl FnOnce(&mut Run<'_>)) -> (Result<(), NodeError>, Vec<u8>) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ffmpeg");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let cancel = CancelToken::default();
        let mut run = Run {
            what: "testing",
            arguments: Vec::new(),
            time: Duration::from_secs(20),
            output: 1 << 20,
            cancel: &cancel,
        };
        change(&mut run);
        let mut out = Vec::new();
        let result = run.run_with(&path, &mut |stdin| stdin.write_all(&[b'x'; 300_000]), &mut |piece| {
            out.extend_from_slice(piece);
            Ok(())
        });
        (result, out)
    }

    #[test]
    fn what_is_piped_in_comes_out() {
        let (result, out) = run("cat", |_| {});
        result.unwrap();
        assert_eq!(out, [b'x'; 300_000]);
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let (result, _) = run("echo 'no such codec' >&2; exit 3", |_| {});
        let message = result.unwrap_err().to_string();
        assert!(message.contains("testing") && message.contains("no such codec"), "{message}");
    }

    #[test]
    fn it_is_ended_at_its_limits() {
        let (result, _) = run("exec sleep 60", |run| run.time = Duration::from_millis(200));
        assert!(result.unwrap_err().to_string().contains("TimeoutError"));
        let (result, out) = run("exec yes", |run| run.output = 100_000);
        assert!(result.unwrap_err().to_string().contains("MemoryError"));
        assert!(out.len() <= 100_000);
    }

    #[test]
    fn an_interrupt_ends_it() {
        let cancel = CancelToken::default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ffmpeg");
        std::fs::write(&path, "#!/bin/sh\nexec sleep 60\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let started = Instant::now();
        let ender = cancel.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            ender.cancel();
        });
        let run = Run {
            what: "testing",
            arguments: Vec::new(),
            time: Duration::from_secs(60),
            output: 1,
            cancel: &cancel,
        };
        let result = run.run_with(&path, &mut |_| Ok(()), &mut |_| Ok(()));
        assert!(matches!(result, Err(NodeError::Interrupted)), "{result:?}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let cancel = CancelToken::default();
        let run = Run {
            what: "testing",
            arguments: Vec::new(),
            time: Duration::from_secs(1),
            output: 1,
            cancel: &cancel,
        };
        let result = run.run_with(Path::new("/nowhere/ffmpeg"), &mut |_| Ok(()), &mut |_| Ok(()));
        assert!(result.unwrap_err().to_string().contains("does not start"));
    }
}
