//! The one way to write a path or a URL.
//!
//! Policies match paths and URLs by prefix, and servers decode, resolve and fold them in their own
//! ways: `/public/../private`, `/public/%2e%2e/private`, `\\private`, `HTTP://EXAMPLE.com:80//x`.
//! So an argument that is a path or a URL is shown to policy in the form that is left when
//! everything that any common server might fold has been folded, and a value that is not written
//! in that form already is refused: what was decided is then what is sent.
//!
//! Three things are folded without being refused, because they cannot lead elsewhere: the slash at
//! a path's end, the missing path of `https://example.com`, and letters beyond ASCII in a URL,
//! which policy sees as escapes.
//!
//! In a path, `%` before two hexadecimal digits is an escape, and undone: `a%20b` is `a b`, and
//! refused as written, also where a file has that very name. `100%.txt` is an ordinary name. In a
//! URL, escapes of letters, digits, `-._~`, `/` and `\` are undone, others stay, and the fragment is
//! left out.
//!
//! These are refused too, for no form of theirs is safe with every server:
//!
//! * escapes that are not UTF-8 (`%c0%ae`), and in a URL a `%` that begins none;
//! * `..;` and names of nothing but dots and spaces;
//! * characters that become dots or slashes when text is normalised (U+FF0E, U+FF0F, U+2024) or that
//!   look like slashes (U+2215, U+2044); invisible and bidirectional ones;
//! * in a path or `file:` URL, what Windows or a shell would read otherwise: names that end in a dot,
//!   that begin or end with a space, or that are a device's (`nul`, `com1.txt`); `:`, which begins a
//!   stream or ends a drive; `~` at the start;
//! * a host that is internationalised, whose look says little.
//!
//! Letters, accents, spaces inside a name and `file..name` are fine. Letter case, and letters that
//! are equal only when normalised, are not folded: do not rely on a `forbid` by name alone where the
//! server's file system folds them.

use std::net::{Ipv4Addr, Ipv6Addr};

use unicode_normalization::UnicodeNormalization as _;
use vocab::id::invisible;

/// The version of these rules, for records: a decision is run again by the rules it was made by.
pub const CANONICAL_VERSION: u32 = 2;

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
            || !given.is_ascii() && self.text == escape(given)
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
        (_, Kind::Path) => path(given),
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
fn path(given: &str) -> Result<Canonical, &'static str> {
    let text = rooted(given, &unescape(given, Escapes::Path)?)?;
    let doubt = doubt(&text).or_else(|| doubt_of_file(&text));
    Ok(Canonical { text, doubt })
}

/// The path `text`, made of `given`, without its backslashes, `.` and `..`.
fn rooted(given: &str, text: &str) -> Result<String, &'static str> {
    let text = text.replace('\\', "/");
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
    /// All are undone.
    Path,
    /// Those of letters, digits, `-._~`, `/` and `\`; others are written in upper case.
    Url,
}

/// Undoes escapes, and the escape of `%` before two hex digits, again and again: what is left reads
/// the same to a server that decodes once, twice or never.
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
            out.truncate(tail);
            let plain = decoded.is_ascii_alphanumeric() || b"-._~/\\".contains(&decoded);
            if plain || escapes == Escapes::Path {
                out.push(decoded);
                continue;
            }
            out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
            break;
        }
    }
    String::from_utf8(out).map_err(|_| NOT_UTF8)
}

const NOT_UTF8: &str = "its escapes are not UTF-8";

/// `text` with what is beyond ASCII in escapes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(digit));
        }
    }
    out
}

const fn digit(nibble: u8) -> char {
    (match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + nibble - 10,
    }) as char
}

/// How often a reader is thought to decode and normalise.
const READINGS: usize = 4;
/// What looks like a slash and does not become one when normalised.
const SLASHES: [char; 6] = [
    '\u{2044}', '\u{2215}', '\u{2216}', '\u{29f5}', '\u{29f8}', '\u{29f9}',
];

/// Why a resolved path may lead elsewhere with a server that decodes, normalises or cuts more than
/// others do.
fn doubt(path: &str) -> Option<&'static str> {
    if path.is_ascii() && !path.contains('%') {
        return doubt_of_segments(path, path);
    }
    let Ok(decoded) = unescape(path, Escapes::Path) else {
        return Some(NOT_UTF8);
    };
    if decoded.contains(invisible) {
        return Some("it holds an invisible character");
    }
    if decoded.contains(SLASHES) {
        return Some("it holds a character that looks like a slash");
    }
    let mut read = decoded.clone();
    for _ in 0..READINGS {
        let normal: String = read.nfkc().collect();
        match unescape(&normal, Escapes::Path) {
            Ok(next) if next == read => break,
            Ok(next) => read = next,
            Err(_) => return Some("it holds characters that become an escape when normalised"),
        }
    }
    doubt_of_segments(&decoded, &read)
}

/// The same, of a path as it is `written` and as it may be `read`.
fn doubt_of_segments(written: &str, read: &str) -> Option<&'static str> {
    const SEPARATORS: [char; 2] = ['/', '\\'];
    if written.matches(SEPARATORS).count() != read.matches(SEPARATORS).count() {
        return Some("it holds a character that becomes a slash when normalised");
    }
    let segments = written.split(SEPARATORS).zip(read.split(SEPARATORS));
    for (written, read) in segments {
        let name = read.split(';').next().unwrap_or_default();
        let hollow = name.chars().all(|c| c == '.' || c.is_whitespace());
        if hollow && !matches!(read, "" | ".") {
            return Some("a name in it is nothing but dots or spaces");
        }
        let dots = |text: &str| (text.starts_with('.'), text.ends_with('.'));
        if dots(written) != dots(read) {
            return Some("it holds a character that becomes a dot when normalised");
        }
    }
    None
}

/// Why a file's path may lead elsewhere where a shell, or Windows, reads it.
fn doubt_of_file(path: &str) -> Option<&'static str> {
    if path.starts_with('~') {
        return Some("it begins with `~`, which may stand for a home folder");
    }
    if path.contains(':') {
        return Some("it holds a colon, which may end a drive's name or begin a stream's");
    }
    path.split('/').find_map(|name| {
        if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
            return Some("a name in it begins or ends with a space");
        }
        if name.ends_with('.') && name != "." {
            return Some("a name in it ends with a dot");
        }
        is_device(name).then_some("a name in it is a device's on Windows")
    })
}

/// Whether Windows takes a file of this name for a device, whatever comes after a dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    // No device's name is longer: those of three letters have a digit, which may be a superscript.
    if stem.len() > 7 {
        return false;
    }
    let stem: String = stem.nfkc().flat_map(char::to_lowercase).collect();
    let numbered = |name: &str| {
        let digit = stem.strip_prefix(name).map(str::as_bytes);
        matches!(digit, Some([b'0'..=b'9']))
    };
    let named = ["con", "prn", "aux", "nul", "conin$", "conout$"].contains(&stem.as_str());
    named || numbered("com") || numbered("lpt")
}

/// Whether each `%` begins an escape.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.bytes().take(2);
        digits.filter(u8::is_ascii_hexdigit).count() == 2
    })
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
    let (before, query) = split_fragment(given);
    let text = rooted(before, &unescape(before, Escapes::Url)?)?;
    if scheme(&text).is_some() {
        return Err("it reads as another scheme once resolved");
    }
    Ok(sent(doubt(&text), format!("{text}{query}")))
}

/// A URL as it goes over the wire, where letters are escapes.
fn sent(doubt: Option<&'static str>, text: String) -> Canonical {
    let text = if text.is_ascii() { text } else { escape(&text) };
    Canonical {
        doubt: doubt.or_else(|| broken_escape(&text)),
        text,
    }
}

fn broken_escape(text: &str) -> Option<&'static str> {
    (!escapes_are_whole(text)).then_some("it holds a `%` that begins no escape")
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

/// The same without the fragment, which is not sent: policy must not be matched by it.
fn split_fragment(text: &str) -> (&str, &str) {
    let (before, tail) = split_tail(text);
    (before, tail.split('#').next().unwrap_or_default())
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
    if !is_special(scheme) {
        let (before, tail) = split_tail(rest);
        return other_url(scheme, before, tail);
    }
    let (before, query) = split_fragment(rest);
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
    let (host, of_host) = host(authority, default_port(scheme))?;
    let host = match (scheme, host.as_str()) {
        ("file", "localhost") => "",
        (_, host) if host.starts_with(':') => return Err("it has no host"),
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
    let mut doubt = of_host.or_else(|| doubt(&resolved));
    if scheme == "file" {
        let path = unescape(&resolved, Escapes::Path)?;
        doubt = doubt.or_else(|| doubt_of_file(&path));
    }
    let text = format!("{scheme}://{host}/{resolved}{slash}{query}");
    Ok(sent(doubt, text))
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
    let before = format!("{authority}{path_text}");
    let text = format!("{scheme}:{before}{tail}");
    Ok(Canonical {
        doubt: doubt(&before).or_else(|| broken_escape(&text)),
        text,
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
        let host = match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => format!("[{address}]"),
        };
        return Ok((format!("{host}{port}"), None));
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
