//! Files that appear whole or not at all, and folders that are known to be writable
//! before the work begins.
//!
//! A run of an hour must not end with "permission denied", and a full disk must not
//! leave half a model where a whole one stood. So [`create_folder`] tries the folder
//! first, and [`write_whole`] writes beside the target and renames at the end: readers
//! see the earlier file or the new one, never something between. Who writes more than one
//! file to a folder holds it meanwhile ([`FolderLock`]).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes `bytes` to `path` so that the file appears whole or not at all.
///
/// The bytes go to a temporary file in the same folder, are synced to the disk and then
/// renamed to `path`; on unix the folder is synced as well, so that the rename survives a
/// power cut. A link at `path` is replaced, not followed.
///
/// # Errors
/// [`Error::File`] if something that is not a file (a folder, a device) stands at `path`;
/// [`Error::Io`] if the system refuses. In both cases what stood at `path` is untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// [`write_whole`] for content that is written piece by piece: `write` gets the temporary
/// file, and an error of `write` leaves what stood at `path` untouched.
///
/// # Errors
/// Those of [`write_whole`]; an error of `write` comes back as [`Error::Io`].
pub fn write_whole_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    // A rename would put a plain file in the place of a device such as /dev/null.
    if let Ok(there) = fs::metadata(path)
        && !there.is_file()
    {
        let found = if there.is_dir() {
            "a folder"
        } else {
            "a device or pipe"
        };
        return Err(Error::file(
            path,
            found,
            "a file, or nothing yet",
            "Choose another name for the file.",
        ));
    }
    let folder = folder_of(path);
    let refused = |source| {
        Error::io(
            "write",
            path,
            source,
            "Check that the folder exists, may be written to and has room; \
             nothing was changed.",
        )
    };
    let mut file = temporary(folder).map_err(refused)?;
    write(file.as_file_mut()).map_err(refused)?;
    file.as_file().sync_all().map_err(refused)?;
    file.persist(path).map_err(|e| refused(e.error))?;
    sync_folder(folder).map_err(|source| {
        Error::io(
            "sync",
            folder,
            source,
            "The file is written but may not survive a power cut; check the disk.",
        )
    })
}

/// Creates the folder `path` with its parents, or accepts it if it exists, and makes sure
/// that files can be written there. Call it before work starts.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be created or a probe file cannot be written in it.
/// The probe file never stays behind.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| {
        Error::io(
            "create the folder",
            path,
            source,
            "Choose another folder, or remove what stands in its way.",
        )
    })?;
    // Asking for permissions would not see a read-only or full file system; writing does.
    let probe = || -> io::Result<()> {
        let mut file = temporary(path)?;
        file.write_all(b"probe")?;
        file.as_file().sync_all()?;
        file.close()
    };
    probe().map_err(|source| {
        Error::io(
            "write in the folder",
            path,
            source,
            "Choose a folder that may be written to and has room.",
        )
    })
}

/// Creates a new folder in `parent`, which is created where it is missing, by the first of
/// `names` that is not taken, and makes sure that files can be written there. Of several programs
/// that do so at once, each gets another folder.
///
/// # Errors
/// As [`create_folder`]; [`Error::Setting`] if all names are taken.
pub fn create_new_folder(
    parent: &Path,
    names: impl IntoIterator<Item = String>,
) -> Result<PathBuf> {
    create_folder(parent)?;
    for name in names {
        let path = parent.join(&name);
        match fs::create_dir(&path) {
            Ok(()) => {
                create_folder(&path)?;
                return Ok(path);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                let fix = "Choose another folder, or remove what stands in its way.";
                return Err(Error::io("create the folder", &path, source, fix));
            }
        }
    }
    let found = format!("no free name in {}", parent.display());
    Err(Error::setting("folder", found, "a name that is not taken"))
}

/// The file that a folder is held by.
const LOCK: &str = ".wgrad-lock";

/// A folder that one run alone writes to, as long as this value lives. The system frees it when
/// the process ends, however it ends; the empty file `.wgrad-lock` stays.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the folder `path`, which must be there. Where the file system has no locks, nothing
    /// is held.
    ///
    /// # Errors
    /// [`Error::File`] naming the folder if another run holds it, [`Error::Io`] if the lock's
    /// file cannot be opened.
    pub fn take(path: &Path) -> Result<Self> {
        let refused = |source| {
            let fix = "Choose a folder that may be written to.";
            Error::io("hold the folder", path, source, fix)
        };
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        let file = options.open(path.join(LOCK)).map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(
                    path,
                    "another run that writes to this folder",
                    "a folder that no other run writes to",
                    "Wait until that run has ended, or choose another folder.",
                ));
            }
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!("{} is on a file system without locks", path.display());
            }
            Err(TryLockError::Error(e)) => return Err(refused(e)),
        }
        Ok(Self { _file: file })
    }

    /// Removes the temporary files of runs that were killed from a folder that is held, or one in
    /// it. Those of a program that writes there without holding the folder would go as well.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be read or a file not be removed; none where there is
    /// no such folder.
    pub fn tidy(&self, path: &Path) -> Result<()> {
        let refused =
            |source| Error::io("tidy up", path, source, "Check the folder's permissions.");
        let entries = match fs::read_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(refused)?,
        };
        for entry in entries {
            let entry = entry.map_err(refused)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !(name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(refused(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads the file at `path`, at most `max_bytes` of it.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened or read, [`Error::File`] if it is longer than
/// `max_bytes`; no more than `max_bytes` + 1 bytes are read to find that out.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let refused = |source: io::Error| {
        let fix = match source.kind() {
            io::ErrorKind::NotFound => "Check the path.",
            io::ErrorKind::PermissionDenied => "Check the file's permissions.",
            io::ErrorKind::IsADirectory => "Name a file, not a folder.",
            _ => "Check the file and its disk.",
        };
        Error::io("read", path, source, fix)
    };
    let file = File::open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    let too_long = |found: String| {
        Error::file(
            path,
            found,
            format!("at most {max_bytes} bytes"),
            "Check that this is the file you meant.",
        )
    };
    if about.is_file() && about.len() > max_bytes {
        return Err(too_long(format!("{} bytes", about.len())));
    }
    // The length is asked again by reading: a pipe has none and a file may still grow.
    let mut bytes = Vec::new();
    (&file)
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(refused)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_long(format!("more than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// The folder `path` lies in; a bare name lies in the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What a temporary file's name begins with.
const PREFIX: &str = ".wgrad-";
/// What it ends with.
const SUFFIX: &str = ".part";

/// A temporary file in `folder`, removed when dropped; [`FolderLock::tidy`] removes those whose
/// process was killed.
fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default; results should get the permissions that any
    // other new file of this user gets, so the umask decides.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    // A folder may be writable and not readable, and some file systems cannot sync one:
    // both leave a whole file, so neither is an error.
    let Ok(folder) = File::open(folder) else {
        return Ok(());
    };
    match folder.sync_all() {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Bytes in hexadecimal, as hashes are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two, longer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two, longer");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    fn a_failing_write_leaves_the_earlier_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_whole(&path, b"earlier").unwrap();
        let error = write_whole_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Io {
                    action: "write",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("disk full"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        assert_eq!(names(dir.path()), ["a.txt"], "no temporary file stays");
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let missing = write_whole(&dir.path().join("no/a.txt"), b"x").unwrap_err();
        assert!(matches!(missing, Error::Io { .. }), "{missing}");
        let folder = write_whole(dir.path(), b"x").unwrap_err();
        assert!(folder.to_string().contains("found a folder"), "{folder}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_never_replaced() {
        let error = write_whole(Path::new("/dev/null"), b"x").unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_gets_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        write_whole(&ours, b"x").unwrap();
        fs::write(&theirs, b"x").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&theirs));
    }

    #[test]
    fn folders_are_created_and_probed() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        assert!(names(&deep).is_empty(), "the probe never stays");
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        for blocked in [file.clone(), file.join("below")] {
            let error = create_folder(&blocked).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("create the folder") && text.contains("Choose"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_folder_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path()).unwrap();
        let second = FolderLock::take(dir.path()).unwrap_err().to_string();
        assert!(second.contains("another run"), "{second}");
        assert!(second.contains(&*dir.path().to_string_lossy()), "{second}");
        drop(first);
        FolderLock::take(dir.path()).unwrap();
        let nowhere = FolderLock::take(&dir.path().join("no")).unwrap_err();
        assert!(matches!(nowhere, Error::Io { .. }), "{nowhere}");
    }

    #[test]
    fn what_killed_runs_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let left = temporary(dir.path()).unwrap().into_temp_path();
        let name = left.file_name().unwrap().to_owned();
        left.keep().unwrap();
        let others = ["a.part", ".wgrad-notes", "model.safetensors"];
        for other in others {
            fs::write(dir.path().join(other), "x").unwrap();
        }
        assert!(names(dir.path()).contains(&name.into_string().unwrap()));
        let lock = FolderLock::take(dir.path()).unwrap();
        lock.tidy(dir.path()).unwrap();
        let mut wanted: Vec<_> = others.iter().chain([&LOCK]).collect();
        wanted.sort();
        assert_eq!(names(dir.path()).iter().collect::<Vec<_>>(), wanted);
        lock.tidy(&dir.path().join("no")).unwrap();
    }

    /// Each of several at once gets a folder of its own.
    #[test]
    fn a_new_folder_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        let one = || create_new_folder(&runs, (1..).map(|k| format!("net-{k}"))).unwrap();
        let mut found: Vec<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        found.sort();
        let wanted: Vec<PathBuf> = (1..=8).map(|k| runs.join(format!("net-{k}"))).collect();
        assert_eq!(found, wanted);
        let taken = create_new_folder(&runs, ["net-3".to_owned()]).unwrap_err();
        assert!(taken.to_string().contains("no free name"), "{taken}");
    }

    #[test]
    fn reading_keeps_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_limited(&path, 10).unwrap(), [7; 10]);
        assert_eq!(read_limited(&path, u64::MAX).unwrap(), [7; 10]);
        let long = read_limited(&path, 9).unwrap_err().to_string();
        assert!(long.contains("found 10 bytes; wanted at most 9"), "{long}");
        let missing = read_limited(&dir.path().join("b"), 9).unwrap_err();
        assert!(missing.to_string().contains("Check the path"), "{missing}");
        assert!(matches!(read_limited(dir.path(), 9), Err(Error::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn an_endless_file_is_cut_off() {
        let error = read_limited(Path::new("/dev/zero"), 1000).unwrap_err();
        assert!(error.to_string().contains("more than 1000"), "{error}");
    }

    #[test]
    fn a_bare_name_lies_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("a")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/b")), Path::new("a"));
    }
}
