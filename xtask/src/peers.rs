//! What the interop tests run against, installed by name: Python and Node packages below
//! `target/interop`, and Debian's Chromium and Go. Each is installed once, until its list changes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{command, must, say, works};

/// Where Debian puts the sources of Go libraries.
const GO_PATH: &str = "/usr/share/gocode";

/// The Python of a virtual environment that holds `tests/interop/requirements.txt`.
pub(crate) fn python(root: &Path) -> Result<PathBuf> {
    let venv = folder(root)?.join("venv");
    let python = venv.join("bin").join("python");
    let list = root.join("tests/interop/requirements.txt");
    once(&list, &venv.join("installed.txt"), || {
        if !works(command(root, &python, ["-m", "pip", "--version"])) {
            make_venv(root, &venv)?;
        }
        say("installing the Python peers");
        let mut pip = command(
            root,
            &python,
            ["-m", "pip", "install", "--quiet", "--requirement"],
        );
        pip.arg(&list).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        must(pip)
    })?;
    Ok(python)
}

/// The folder whose `node_modules` holds what `tests/interop/package.json` names.
pub(crate) fn node(root: &Path) -> Result<PathBuf> {
    let here = folder(root)?.join("node");
    let list = root.join("tests/interop/package.json");
    once(&list, &here.join("installed.json"), || {
        if !works(command(root, "npm", ["--version"])) {
            bail!("the interop tests need Node 20 or newer with npm on the PATH");
        }
        say("installing the Node peers");
        std::fs::create_dir_all(&here)?;
        std::fs::copy(&list, here.join("package.json"))?;
        // No lock file: it would name the registry of whoever made it. Versions are pinned in the list.
        must(command(
            &here,
            "npm",
            [
                "install",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ],
        ))
    })?;
    Ok(here)
}

/// Debian's Chromium, and what drives it.
pub(crate) fn browser(root: &Path) -> Result<()> {
    let there = |program| works(command(root, program, ["--version"]));
    if there("chromium") && there("chromedriver") {
        return Ok(());
    }
    apt(root, &["chromium", "chromium-driver"])
}

/// The environment that lets `go` build with Debian's `golang.org/x/mod` and no network.
pub(crate) fn go(root: &Path) -> Result<Vec<(&'static str, String)>> {
    let library = Path::new(GO_PATH).join("src/golang.org/x/mod/sumdb/tlog");
    if !works(command(root, "go", ["version"])) || !library.is_dir() {
        apt(root, &["golang-go", "golang-golang-x-mod-dev"])?;
    }
    let cache = folder(root)?.join("go-cache");
    Ok(vec![
        ("GO111MODULE", "off".to_owned()),
        ("GOFLAGS", String::new()),
        ("CGO_ENABLED", "0".to_owned()),
        ("GOPATH", GO_PATH.to_owned()),
        ("GOCACHE", cache.display().to_string()),
    ])
}

fn make_venv(root: &Path, venv: &Path) -> Result<()> {
    if !works(command(root, "python3", ["--version"])) {
        bail!("the interop tests need Python 3.11 or newer on the PATH");
    }
    let make = || {
        let mut make = command(root, "python3", ["-m", "venv", "--clear"]);
        make.arg(venv);
        make
    };
    // Debian ships Python without the part that makes environments.
    if works(make()) {
        return Ok(());
    }
    apt(root, &["python3-venv"])?;
    must(make())
}

fn apt(root: &Path, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let is_root = crate::process::output(command(root, "id", ["-u"])).is_ok_and(|id| id == b"0\n");
    let prefix: &[&str] = match () {
        () if !works(command(root, "apt-get", ["--version"])) => {
            bail!("missing: {names} (Debian's names), and there is no apt-get to install them with")
        }
        () if is_root => &[],
        () if works(command(root, "sudo", ["-n", "true"])) => &["sudo", "-n"],
        () => bail!("missing: {names}; install them (`apt-get install {names}`) and run again"),
    };
    say(&format!("installing {names}"));
    let run = |words: &[&str]| {
        let all: Vec<&str> = prefix.iter().chain(words).copied().collect();
        let (program, args) = all.split_first().context("no command")?;
        let mut apt = command(root, program, args);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        must(apt)
    };
    run(&["apt-get", "update", "--quiet=2"])?;
    let mut install = vec![
        "apt-get",
        "install",
        "--yes",
        "--quiet=2",
        "--no-install-recommends",
    ];
    install.extend(packages);
    run(&install)
}

/// Runs `install` unless `stamp` says that it ran for this very list. The stamp is written last, so
/// that an installation which was cut off is done again.
fn once(list: &Path, stamp: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = std::fs::read(list).with_context(|| format!("reading {}", list.display()))?;
    if std::fs::read(stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install()?;
    std::fs::write(stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

fn folder(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target").join("interop");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
