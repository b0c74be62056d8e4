//! Signed notes, by C2SP signed-note: a text, a blank line, and lines of signatures.
//!
//! Signatures by keys that nobody asked about are ignored, which is what lets keys change and
//! witnesses add theirs. A signature by a key that was asked about must be there and must hold.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use vocab::rng::{self, Rng, RngError};
use vocab::secret::Secret;
use zeroize::{Zeroize as _, Zeroizing};

/// Longest note that is read, in bytes.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Most signatures in a note that is read.
pub const SIGNATURES_MAX: usize = 100;
/// Longest key name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// What a key signs with: the type byte of C2SP signed-note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `0x01`: Ed25519 over the note's text.
    Ed25519,
    /// `0x04`: a timestamped Ed25519 cosignature, see [`cosignature`](crate::cosignature).
    CosignatureV1,
}

impl Algorithm {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }
}

/// The first four bytes of a key's hash. With the key's name it tells which key signed; it proves
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 4]);

impl KeyId {
    fn of(name: &str, algorithm: Algorithm, key: &VerifyingKey) -> Self {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', algorithm.byte()])
            .chain_update(key)
            .finalize()
            .into();
        let [a, b, c, d, ..] = hash;
        Self([a, b, c, d])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is not a key.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The name is empty, too long, or has a space, a plus or a control character.
    #[error("a key's name is 1 to 255 bytes without spaces, `+` and control characters")]
    Name,
    /// Not of the form of a key.
    #[error("not of the form {form}")]
    Form {
        /// The form.
        form: &'static str,
    },
    /// A key of a sort that is not known here.
    #[error("a key of type {found:#04x}, which is not known")]
    Algorithm {
        /// The type byte.
        found: u8,
    },
    /// The bytes are not those of an Ed25519 key, or of one too weak to use.
    #[error("not an Ed25519 key")]
    Key,
    /// The hash in the text is not that of the key.
    #[error("the key's hash is {expected}, not `{found}`")]
    Hash {
        /// What it should be.
        expected: KeyId,
        /// What it says.
        found: String,
    },
}

pub(crate) fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
        return Err(KeyError::Name);
    }
    Ok(())
}

/// What `<name>+<8 hex digits>+<base64>` says, before it is believed.
pub(crate) struct KeyText<'a> {
    pub(crate) name: &'a str,
    hash: &'a str,
    algorithm: Algorithm,
    pub(crate) key: Zeroizing<[u8; 32]>,
}

impl<'a> KeyText<'a> {
    fn parse(text: &'a str, form: &'static str) -> Result<Self, KeyError> {
        let bad = KeyError::Form { form };
        // Base64 has `+` of its own, so the first two are the ones that count.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(data)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(bad);
        };
        check_name(name)?;
        let data = Zeroizing::new(STANDARD.decode(data).map_err(|_| bad.clone())?);
        let (algorithm, key) = data.split_first().ok_or(bad)?;
        // The type is judged before the length: keys of other types have other lengths.
        let algorithm = match algorithm {
            0x01 => Algorithm::Ed25519,
            0x04 => Algorithm::CosignatureV1,
            found => return Err(KeyError::Algorithm { found: *found }),
        };
        let key = <[u8; 32]>::try_from(key).map_err(|_| KeyError::Key)?;
        Ok(Self {
            name,
            hash,
            algorithm,
            key: Zeroizing::new(key),
        })
    }

    /// Reads the text form of a private key of this sort.
    pub(crate) fn parse_private(text: &'a str, algorithm: Algorithm) -> Result<Self, KeyError> {
        const FORM: &str = "`PRIVATE+KEY+<name>+<8 hex digits>+<base64>`";
        let rest = text
            .strip_prefix("PRIVATE+KEY+")
            .ok_or(KeyError::Form { form: FORM })?;
        let text = KeyText::parse(rest, FORM)?;
        if text.algorithm != algorithm {
            return Err(KeyError::Algorithm {
                found: text.algorithm.byte(),
            });
        }
        Ok(text)
    }

    /// Holds the hash in the text against that of the key.
    pub(crate) fn check_hash(&self, expected: KeyId) -> Result<(), KeyError> {
        if expected.to_string() == self.hash {
            return Ok(());
        }
        Err(KeyError::Hash {
            expected,
            found: self.hash.to_owned(),
        })
    }
}

/// A public key. Text form, as in `data/calls.vkey`: `<name>+<8 hex digits>+<base64>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: KeyId,
    algorithm: Algorithm,
    key: VerifyingKey,
}

impl Verifier {
    pub(crate) fn new(name: &str, algorithm: Algorithm, key: VerifyingKey) -> Self {
        Self {
            name: name.to_owned(),
            id: KeyId::of(name, algorithm, &key),
            algorithm,
            key,
        }
    }

    /// The key's name; for a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's short id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Name and short id, `<name>+<8 hex digits>`, as entries name the key.
    pub fn key_name(&self) -> String {
        format!("{}+{}", self.name, self.id)
    }

    /// Whether the other one is this key, under whatever name.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// What it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn holds(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = vec![self.algorithm.byte()];
        data.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, STANDARD.encode(data))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({self})")
    }
}

impl FromStr for Verifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = KeyText::parse(text, "`<name>+<8 hex digits>+<base64>`")?;
        let key = VerifyingKey::from_bytes(&text.key).map_err(|_| KeyError::Key)?;
        if key.is_weak() {
            return Err(KeyError::Key);
        }
        let verifier = Self::new(text.name, text.algorithm, key);
        text.check_hash(verifier.id)?;
        Ok(verifier)
    }
}

/// A private key that signs notes with [`Algorithm::Ed25519`].
///
/// Text form: `PRIVATE+KEY+<name>+<8 hex digits>+<base64>`, as `golang.org/x/mod/sumdb/note`
/// writes it.
pub struct Signer {
    key: SigningKey,
    verifier: Verifier,
}

impl Signer {
    /// A fresh key.
    pub fn generate(name: &str, rng: &dyn Rng) -> Result<Self, GenerateError> {
        let seed = Zeroizing::new(rng::bytes(rng)?);
        Ok(Self::from_seed(name, &seed)?)
    }

    /// The key that grows from a seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = SigningKey::from_bytes(seed);
        let verifier = Verifier::new(name, Algorithm::Ed25519, key.verifying_key());
        Ok(Self { key, verifier })
    }

    /// The public key.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// The text form, to be kept secret.
    pub fn to_text(&self) -> Secret<String> {
        private_text(&self.verifier, &self.key)
    }

    /// Signs a note's text.
    pub fn sign(&self, text: &str) -> Signature {
        Signature {
            name: self.verifier.name.clone(),
            id: self.verifier.id,
            bytes: self.key.sign(text.as_bytes()).to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, [redacted])", self.verifier.key_name())
    }
}

impl FromStr for Signer {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = KeyText::parse_private(text, Algorithm::Ed25519)?;
        let signer = Self::from_seed(text.name, &text.key)?;
        text.check_hash(signer.verifier.id)?;
        Ok(signer)
    }
}

/// The text form of a private key, as [`KeyText::parse_private`] reads it.
pub(crate) fn private_text(verifier: &Verifier, key: &SigningKey) -> Secret<String> {
    let mut data = Zeroizing::new([verifier.algorithm.byte(); 33]);
    if let Some(seed) = data.last_chunk_mut::<32>() {
        *seed = key.to_bytes();
    }
    let mut encoded = STANDARD.encode(*data);
    let text = format!("PRIVATE+KEY+{}+{encoded}", verifier.key_name());
    encoded.zeroize();
    Secret::new(text)
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The name cannot be a key's.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RngError),
}

/// One signature line of a note. Line form: `— <name> <base64(id ‖ bytes)>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub(crate) name: String,
    pub(crate) id: KeyId,
    pub(crate) bytes: Vec<u8>,
}

impl Signature {
    /// The name of the key that, it says, made it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short id of that key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, data) = line.strip_prefix("— ")?.split_once(' ')?;
        check_name(name).ok()?;
        let data = STANDARD.decode(data).ok()?;
        let (id, bytes) = data.split_first_chunk::<4>()?;
        if bytes.is_empty() {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            id: KeyId(*id),
            bytes: bytes.to_vec(),
        })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = [&self.id.0, self.bytes.as_slice()].concat();
        write!(f, "— {} {}", self.name, STANDARD.encode(data))
    }
}

/// Reads lines of signatures, each ended by a newline: the end of a note, or a witness's answer.
pub fn parse_signatures(lines: &str) -> Result<Vec<Signature>, NoteError> {
    if lines.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong {
            length: lines.len(),
        });
    }
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
    let mut signatures = Vec::new();
    for line in lines.split('\n') {
        if signatures.len() == SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(Signature::parse(line).ok_or(NoteError::SignatureLine)?);
    }
    Ok(signatures)
}

/// A text and its signatures. That it was read says nothing about whether they hold: ask
/// [`Note::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// Why a text is not a note, or a note is not signed as it must be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoteError {
    /// Too long to be read.
    #[error("the note is {length} bytes long; at most {NOTE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not a text ending in a newline, a blank line, and lines of signatures.
    #[error("not of the form of a signed note")]
    Form,
    /// A control character other than newline.
    #[error("a control character in the note")]
    Control,
    /// A line among the signatures that is not one.
    #[error("a malformed signature line")]
    SignatureLine,
    /// Too many signatures to be looked at.
    #[error("more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// The key that must have signed did not.
    #[error("no signature by `{key}`")]
    Unsigned {
        /// The key's name and id.
        key: String,
    },
    /// A signature by the key is there, and is wrong.
    #[error("the signature by `{key}` is wrong")]
    Wrong {
        /// The key's name and id.
        key: String,
    },
}

impl Note {
    /// Signs a text, which must end in a newline and have no other control characters.
    pub fn sign(text: &str, signer: &Signer) -> Result<Self, NoteError> {
        check_text(text)?;
        Ok(Self {
            text: text.to_owned(),
            signatures: vec![signer.sign(text)],
        })
    }

    /// Reads a note strictly.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong { length: note.len() });
        }
        // The text may have blank lines too: the last one is the one that divides.
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let text = format!("{text}\n");
        check_text(&text)?;
        Ok(Self {
            text,
            signatures: parse_signatures(signatures)?,
        })
    }

    /// The text, with its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, held or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The text alone.
    #[must_use]
    pub fn without_signatures(mut self) -> Self {
        self.signatures.clear();
        self
    }

    /// Adds a signature.
    pub fn push(&mut self, signature: Signature) {
        self.signatures.push(signature);
    }

    /// The same text with this signature and no other.
    pub(crate) fn with_only(&self, signature: Signature) -> Self {
        Self {
            text: self.text.clone(),
            signatures: vec![signature],
        }
    }

    /// Checks that the note is signed by a key of type [`Algorithm::Ed25519`]: at least once, and
    /// each signature that says it is this key's.
    pub fn verify(&self, verifier: &Verifier) -> Result<(), NoteError> {
        let message = self.text.as_bytes();
        let mut signed = false;
        for bytes in self.signatures_by(verifier) {
            let holds = verifier.algorithm == Algorithm::Ed25519
                && bytes
                    .try_into()
                    .is_ok_and(|bytes| verifier.holds(message, bytes));
            if !holds {
                return Err(NoteError::Wrong {
                    key: verifier.key_name(),
                });
            }
            signed = true;
        }
        if signed {
            Ok(())
        } else {
            Err(NoteError::Unsigned {
                key: verifier.key_name(),
            })
        }
    }

    /// Checks that the note is signed by one of these keys at least, and that each signature that
    /// says it is by one of them is.
    pub fn verify_any(&self, verifiers: &[Verifier]) -> Result<(), NoteError> {
        let mut missing = NoteError::Unsigned { key: String::new() };
        let mut signed = false;
        for verifier in verifiers {
            match self.verify(verifier) {
                Ok(()) => signed = true,
                Err(error @ NoteError::Unsigned { .. }) => missing = error,
                // A wrong signature next to a right one makes the note malformed.
                Err(error) => return Err(error),
            }
        }
        if signed { Ok(()) } else { Err(missing) }
    }

    /// The same text with the signatures that say they are by one of these keys, and no other.
    pub(crate) fn with_only_by(&self, verifiers: &[Verifier]) -> Self {
        let by = |signature: &&Signature| {
            verifiers
                .iter()
                .any(|it| signature.id == it.id && signature.name == it.name)
        };
        Self {
            text: self.text.clone(),
            signatures: self.signatures.iter().filter(by).cloned().collect(),
        }
    }

    /// The bytes of each signature that says it is `verifier`'s.
    pub(crate) fn signatures_by(&self, verifier: &Verifier) -> impl Iterator<Item = &[u8]> {
        self.signatures
            .iter()
            .filter(|signature| signature.id == verifier.id && signature.name == verifier.name)
            .map(|signature| signature.bytes.as_slice())
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Form);
    }
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Control);
    }
    Ok(())
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
