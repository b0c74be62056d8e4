//! The one way to write a path or a URL.
//!
//! Policies match paths and URLs by prefix, and servers decode, resolve and fold them in their own
//! ways: `/public/../private`, `/public/%2e%2e/private`, `\\private`, `HTTP://EXAMPLE.com:80//x`.
//! So an argument that is a path or a URL is shown to policy in the form that is left when
//! everything that any common server might fold has been folded, and a value that is not written
//! in that form already is refused: what was decided is then what is sent.
//!
//! Two things are folded without being refused, because they cannot lead elsewhere: the slash at a
//! path's end, and the missing path of `https://example.com`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The version of these rules, for records: a decision is run again by the rules it was made by.
pub const CANONICAL_VERSION: u32 = 1;

/// Longest path or URL, in bytes. A `data:` URL may be longer.
const BYTES_MAX: usize = 16 * 1024;

/// What an argument holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A path, or a URL if it begins with `scheme://`.
    Path,
    /// A URL, or a reference relative to one.
    Url,
}

/// A canonical form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Canonical {
    /// What policy sees.
    pub(crate) text: String,
    /// Why the value may not pass although it may be in this form already.
    pub(crate) doubt: Option<&'static str>,
}

impl Canonical {
    /// Whether `given` is written so, or differs only where it cannot matter.
    pub(crate) fn is_form_of(&self, given: &str) -> bool {
        given == self.text
            || given.strip_suffix('/') == Some(self.text.as_str()) && !given.ends_with("//")
            || self.text.strip_suffix('/').is_some_and(|bare| {
                bare == given
                    && bare
                        .split_once("://")
                        .is_some_and(|(_, host)| !host.contains('/'))
            })
    }
}

/// The canonical form of `given`, or why it has none.
pub(crate) fn canonical(kind: Kind, given: &str) -> Result<Canonical, &'static str> {
    if given.chars().any(char::is_control) {
        return Err("it holds a control character");
    }
    if given.len() > BYTES_MAX && !is_data_url(given) {
        return Err("it is longer than 16384 bytes");
    }
    match (scheme(given), kind) {
        (Some((scheme, rest)), Kind::Url) => url(&scheme, rest),
        (Some((scheme, rest)), Kind::Path) if rest.starts_with("//") && scheme.len() > 1 => {
            url(&scheme, rest)
        }
        (_, Kind::Path) => Ok(Canonical {
            text: path(given)?,
            doubt: None,
        }),
        (None, Kind::Url) => relative(given),
    }
}

fn is_data_url(given: &str) -> bool {
    given
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("data:"))
}

/// `scheme:` and the rest, the scheme in lower case.
fn scheme(given: &str) -> Option<(String, &str)> {
    let (scheme, rest) = given.split_once(':')?;
    let valid = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// A path: escapes undone, backslashes turned, segments resolved.
fn path(given: &str) -> Result<String, &'static str> {
    let text = unescape(given, Escapes::Path)?.replace('\\', "/");
    let rooted = text.starts_with('/');
    let resolved = resolve(&text, rooted)?;
    Ok(match (rooted, resolved.is_empty()) {
        (true, _) => format!("/{resolved}"),
        (false, true) if !given.is_empty() => ".".to_owned(),
        (false, _) => resolved,
    })
}

/// Segments of `text` with `.`, `..` and empty ones resolved, without slash at either end.
fn resolve(text: &str, rooted: bool) -> Result<String, &'static str> {
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                if segments.pop().is_none() && !rooted {
                    return Err("it climbs out of where it starts (`..`)");
                }
            }
            segment => segments.push(segment),
        }
    }
    Ok(segments.join("/"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// Other escapes stay as they are: `%` is an ordinary character in a file's name.
    Path,
    /// Other escapes are written in upper case.
    Url,
}

/// Undoes the escapes of letters, digits, `-._~`, `/`, `\` and of `%` before two hex digits, again
/// and again: what is left reads the same to a server that decodes once, twice or never.
///
/// One pass: an escape that appears by undoing another one ends where that one was.
fn unescape(given: &str, escapes: Escapes) -> Result<String, &'static str> {
    let mut out: Vec<u8> = Vec::with_capacity(given.len());
    for byte in given.bytes() {
        out.push(byte);
        loop {
            if let [.., b'%', b'2', b'5', high, low] = *out.as_slice()
                && hex(high).is_some()
                && hex(low).is_some()
            {
                out.truncate(out.len() - 5);
                out.extend([b'%', high, low]);
            }
            let [.., b'%', high, low] = *out.as_slice() else {
                break;
            };
            let Some(decoded) = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low) else {
                break;
            };
            let tail = out.len() - 3;
            if decoded < 0x20 || decoded == 0x7f {
                return Err("it holds an escaped control character");
            }
            if decoded.is_ascii_alphanumeric() || b"-._~/\\".contains(&decoded) {
                out.truncate(tail);
                out.push(decoded);
                continue;
            }
            if escapes == Escapes::Url {
                out.truncate(tail);
                out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
            }
            break;
        }
    }
    String::from_utf8(out).map_err(|_| "it is not text")
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A URL without scheme: a path, and what `?` or `#` begins.
fn relative(given: &str) -> Result<Canonical, &'static str> {
    no_spaces(given)?;
    if given.starts_with(['/', '\\']) && given.get(1..).is_some_and(|r| r.starts_with(['/', '\\']))
    {
        return Err("it has a host but no scheme");
    }
    let (before, tail) = split_tail(given);
    let text = path(before)?;
    if scheme(&text).is_some() {
        return Err("it reads as another scheme once resolved");
    }
    Ok(Canonical {
        text: format!("{text}{tail}"),
        doubt: None,
    })
}

fn no_spaces(given: &str) -> Result<(), &'static str> {
    if given.contains(char::is_whitespace) {
        return Err("it holds white space");
    }
    Ok(())
}

/// What is before the first `?` or `#`, and the rest.
fn split_tail(text: &str) -> (&str, &str) {
    text.split_at(text.find(['?', '#']).unwrap_or(text.len()))
}

/// Whether browsers and libraries read backslashes, hosts and ports of this scheme as the web does.
fn is_special(scheme: &str) -> bool {
    scheme == "file" || default_port(scheme).is_some()
}

/// The port that is meant when none is written.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    }
}

fn url(scheme: &str, rest: &str) -> Result<Canonical, &'static str> {
    if scheme == "data" {
        return Ok(Canonical {
            text: format!("data:{rest}"),
            doubt: None,
        });
    }
    no_spaces(rest)?;
    let (before, tail) = split_tail(rest);
    if !is_special(scheme) {
        return other_url(scheme, before, tail);
    }
    let before = before.replace('\\', "/");
    let (authority, path_text) = if scheme == "file" {
        match before.strip_prefix("//") {
            Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
            None => ("", before.as_str()),
        }
    } else {
        let after = before.trim_start_matches('/');
        after.split_at(after.find('/').unwrap_or(after.len()))
    };
    let (host, doubt) = host(authority, default_port(scheme))?;
    let host = match (scheme, host.as_str()) {
        ("file", "localhost") => "",
        ("file", host) => host,
        (_, "") => return Err("it has no host"),
        (_, host) => host,
    };
    let text = unescape(path_text, Escapes::Url)?.replace('\\', "/");
    let slash = if text.len() > 1 && text.ends_with('/') {
        "/"
    } else {
        ""
    };
    let resolved = resolve(&text, true)?;
    let slash = if resolved.is_empty() { "" } else { slash };
    Ok(Canonical {
        text: format!("{scheme}://{host}/{resolved}{slash}{tail}"),
        doubt,
    })
}

/// A URL of a scheme that has no rules of its own here: what is after `//` up to a slash stays.
fn other_url(scheme: &str, before: &str, tail: &str) -> Result<Canonical, &'static str> {
    if before.contains('\\') {
        return Err("it holds a backslash");
    }
    let (authority, path_text) = match before.strip_prefix("//") {
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            (Some(host), path)
        }
        None => (None, before),
    };
    let path_text = unescape(path_text, Escapes::Url)?;
    if path_text.contains('\\') {
        return Err("it holds an escaped backslash");
    }
    let path_text = if path_text.starts_with('/') || path_text.split('/').any(|part| part == "..") {
        let rooted = path_text.starts_with('/');
        let slash = if path_text.len() > 1 && path_text.ends_with('/') {
            "/"
        } else {
            ""
        };
        let resolved = resolve(&path_text, rooted)?;
        let slash = if resolved.is_empty() { "" } else { slash };
        format!("{}{resolved}{slash}", if rooted { "/" } else { "" })
    } else {
        path_text
    };
    let authority = match authority {
        Some(host) => format!("//{}", unescape(host, Escapes::Url)?),
        None => String::new(),
    };
    let host = authority.strip_prefix("//").unwrap_or_default();
    if host.contains(['/', '\\']) || matches!(host, "." | "..") {
        return Err("its host is not a host name");
    }
    Ok(Canonical {
        text: format!("{scheme}:{authority}{path_text}{tail}"),
        doubt: None,
    })
}

/// The host and port of `authority`, without user, in lower case, addresses in their usual form.
fn host(
    authority: &str,
    default_port: Option<u16>,
) -> Result<(String, Option<&'static str>), &'static str> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (host, ""),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(
            digits
                .parse::<u16>()
                .map_err(|_| "its port is not a number up to 65535")?,
        ),
        _ => return Err("its port is not a number up to 65535"),
    };
    let port = port
        .filter(|port| Some(*port) != default_port)
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    if let Some(inside) = host.strip_prefix('[') {
        let address: Ipv6Addr = inside
            .strip_suffix(']')
            .and_then(|text| text.parse().ok())
            .ok_or("its host is not an IPv6 address")?;
        return Ok((format!("[{address}]{port}"), None));
    }
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if !host.is_ascii() {
        return Err("its host is not in ASCII");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(plain) || host.split('.').any(str::is_empty) && !host.is_empty() {
        return Err("its host is not a host name");
    }
    if let Some(address) = address_in_numbers(host)? {
        return Ok((format!("{address}{port}"), None));
    }
    let doubt = host
        .split('.')
        .any(|label| label.starts_with("xn--"))
        .then_some("its host is an internationalised name, which may look like another");
    Ok((format!("{host}{port}"), doubt))
}

/// The address that browsers and C libraries read in `127.1`, `0x7f.0.0.1` or `2130706433`.
fn address_in_numbers(host: &str) -> Result<Option<Ipv4Addr>, &'static str> {
    const BAD: &str = "its host is a number but not an IPv4 address";
    let number = |part: &str| -> Option<u64> {
        let (digits, radix) = match part.strip_prefix("0x") {
            Some("") => return Some(0),
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        u64::from_str_radix(digits, radix).ok()
    };
    let parts: Vec<&str> = host.split('.').collect();
    let Some((last, leading)) = parts.split_last() else {
        return Ok(None);
    };
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !numeric && !hexadecimal {
        return Ok(None);
    }
    if leading.len() > 3 {
        return Err(BAD);
    }
    let mut address = 0_u64;
    for part in leading {
        let byte = number(part).filter(|byte| *byte <= 255).ok_or(BAD)?;
        address = address << 8 | byte;
    }
    let room = 8 * (4 - leading.len());
    let rest = number(last).filter(|rest| *rest < 1 << room).ok_or(BAD)?;
    u32::try_from(address << room | rest)
        .map(|bits| Some(Ipv4Addr::from_bits(bits)))
        .map_err(|_| BAD)
}

/// What an argument of this name and `format` holds, going by these alone.
pub(crate) fn kind_of(name: &str, format: Option<&str>) -> Option<Kind> {
    match format {
        Some("uri" | "uri-reference" | "iri" | "iri-reference" | "url" | "uri-template") => {
            return Some(Kind::Url);
        }
        Some("path" | "file-path" | "directory-path" | "filename") => return Some(Kind::Path),
        _ => {}
    }
    // Of `options.targetPaths` the last word counts: `paths`.
    let mut word = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase()) {
            word.clear();
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    match word.as_str() {
        "path" | "paths" | "file" | "files" | "filename" | "filenames" | "filepath"
        | "filepaths" | "dir" | "dirs" | "directory" | "directories" | "folder" | "folders"
        | "cwd" => Some(Kind::Path),
        "url" | "urls" | "uri" | "uris" | "href" | "endpoint" => Some(Kind::Url),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
