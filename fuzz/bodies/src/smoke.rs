//! Every body on its seeds and on a fixed sequence of things made from them: the fuzzer's short and
//! deterministic brother.

use std::path::{Path, PathBuf};

/// Mutations of one target; those that build a policy engine or an inspector each time get fewer.
const MUTATIONS: usize = 4_000;
const MUTATIONS_OF_SLOW: usize = 150;
const SLOW: &[&str] = &["tool_list", "policy_set", "cases", "inspect_rules"];

/// What parsers care about.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\n\n",
    b" ",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"..",
    b"/",
    b"%2e",
    b"%25",
    b"-",
    b"+",
    b"0",
    b"1e999",
    b"-0",
    b"18446744073709551615",
    b"null",
    b"true",
    b"\"_meta\":{}",
    b"\"id\":1,",
    b"dev.tipstaff/",
    b"=",
    b"&",
    b"data:",
    b"\xff",
    b"\xef\xbb\xbf",
    "ſ".as_bytes(),
    "\u{212a}".as_bytes(),
];

/// A generator with a fixed seed (splitmix64): the same inputs on every machine, every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A piece of `bytes`, at most 64 long.
    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let length = self.below(64).min(bytes.len() - start);
        start..start + length
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
            2 => drop(bytes.drain(self.piece(bytes))),
            3 => {
                let piece = bytes[self.piece(bytes)].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            4 => {
                let other = self.pick(seeds);
                drop(bytes.splice(at..at, other[self.piece(other)].to_vec()));
            }
            5 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, self.pick(WORDS).to_vec())),
        }
    }
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz_folder().join("seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut seeds: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// A seed whose name does not begin with `bad` is one that the parser takes.
fn smoke(target: &str) {
    let (_, body) = crate::BODIES
        .iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        assert_eq!(
            body(seed),
            !name.starts_with("bad"),
            "seeds/{target}/{name}"
        );
    }
    let seeds: Vec<&[u8]> = seeds.iter().map(|(_, seed)| seed.as_slice()).collect();
    assert!(!seeds.is_empty(), "{target} has no seed");
    body(b"");
    let mut dice = Dice(target.len() as u64);
    let count = if SLOW.contains(&target) {
        MUTATIONS_OF_SLOW
    } else {
        MUTATIONS
    };
    for _ in 0..count {
        let mut bytes = dice.pick(&seeds).to_vec();
        for _ in 0..=dice.below(4) {
            dice.mutate(&mut bytes, &seeds);
        }
        let input = String::from_utf8_lossy(&bytes).into_owned();
        let result = std::panic::catch_unwind(|| body(&bytes));
        assert!(result.is_ok(), "{target} failed on {input:?}");
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*

        /// A body, a test, a fuzz target and a folder of seeds go together.
        #[test]
        fn every_body_has_a_target() {
            let mut expected: Vec<&str> = crate::BODIES.iter().map(|(name, _)| *name).collect();
            expected.sort_unstable();
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort_unstable();
            assert_eq!(tested, expected);
            assert_eq!(listed("seeds"), expected);
            assert_eq!(listed("fuzz_targets"), expected);
            let manifest = std::fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
            for name in expected {
                let path = fuzz_folder().join(format!("fuzz_targets/{name}.rs"));
                let target = std::fs::read_to_string(path).unwrap();
                assert!(target.contains(&format!("bodies::{name}(data)")), "{name}");
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            }
        }
    };
}

fn listed(folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(fuzz_folder().join(folder)).unwrap();
    let mut names: Vec<String> = files
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

targets! {
    authority json frame check access_request sse headers hosts translate upstream entry event note checkpoint cosignature tlog_proof proof witness submission tile token
    scim_filter scim_patch security_event token_request token_answer openbao_answer foreign client keys tool_list policy_set cases decide names config
    inspect inspect_rules mask
}
