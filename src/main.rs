//! The `wgrad` command.
#![deny(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    quiet_wayland();
    cli::main()
}

/// Mesa's layer that picks a Vulkan device asks Wayland, whose library prints a line that
/// begins with `error:` where no folder for its socket is named, and every call of the layer
/// prints it again. With a folder that is not there it finds no socket and says nothing.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn quiet_wayland() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(NAME).is_none_or(|folder| !folder.as_encoded_bytes().starts_with(b"/")) {
        // SAFETY: nothing has run before this, so there is no other thread that could read
        // the environment.
        unsafe { std::env::set_var(NAME, "/nonexistent") };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_wayland() {}
