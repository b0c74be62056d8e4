// A transparency log in Go that has a tipstaff witness cosign it.
//
//	witness key FILE            makes the log's key: FILE, and FILE.vkey for the witness to follow
//	witness run FILE URL VKEY   grows the log, submits it, and holds each answer against VKEY
//
// The log's hashes, proofs, checkpoints and signatures are golang.org/x/mod/sumdb's. What is ours is
// the walk, and the message of a cosignature, which sumdb does not know: C2SP tlog-cosignature's.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "log.example/written-in-go"

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "key":
		err = makeKey(os.Args[2])
	case len(os.Args) == 5 && os.Args[1] == "run":
		err = run(os.Args[2], os.Args[3], os.Args[4])
	default:
		err = errors.New("usage: witness key FILE | witness run FILE URL VKEY")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func makeKey(path string) error {
	secret, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".vkey", []byte(public+"\n"), 0o644)
}

// log is a tree in memory.
type log struct {
	signer note.Signer
	hashes []tlog.Hash
	size   int64
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var read []tlog.Hash
	for _, index := range indexes {
		read = append(read, l.hashes[index])
	}
	return read, nil
}

func (l *log) add(entry string) error {
	hashes, err := tlog.StoredHashes(l.size, []byte(entry), l)
	l.hashes, l.size = append(l.hashes, hashes...), l.size+1
	return err
}

func grown(signer note.Signer, size int64, entry func(int64) string) (*log, error) {
	l := &log{signer: signer}
	for l.size < size {
		if err := l.add(entry(l.size)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// submission is the body of add-checkpoint, and the checkpoint in it.
func (l *log) submission(old, size int64) (body, checkpoint string, err error) {
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		return "", "", err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.signer.Name(), size, root)
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		return "", "", err
	}
	body = fmt.Sprintf("old %d\n", old)
	if old > 0 && old < size {
		proof, err := tlog.ProveTree(size, old, l)
		if err != nil {
			return "", "", err
		}
		for _, hash := range proof {
			body += hash.String() + "\n"
		}
	}
	return body + "\n" + string(signed), string(signed), nil
}

// cosigner verifies cosignature/v1 for note.Open.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(signature)
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", seconds, text)
	return seconds != 0 && ed25519.Verify(c.key, []byte(message), signature[8:])
}

func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("not a vkey: %q", vkey)
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != 0x04 {
		return nil, fmt.Errorf("not the vkey of a cosigner: %q", vkey)
	}
	hash := sha256.Sum256(append([]byte(parts[0]+"\n"), data...))
	c := &cosigner{parts[0], binary.BigEndian.Uint32(hash[:]), data[1:]}
	if fmt.Sprintf("%08x", c.hash) != parts[1] {
		return nil, fmt.Errorf("the key id of %q is %08x", vkey, c.hash)
	}
	return c, nil
}

type client struct {
	url     string
	witness *cosigner
}

func (c *client) post(body string) (int, string, string, error) {
	answer, err := http.Post(c.url+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(text), err
}

// both opens a checkpoint that must carry the log's signature and the witness's.
func (c *client) both(text []byte, verifier note.Verifier) error {
	opened, err := note.Open(text, note.VerifierList(verifier, c.witness))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != 2 || len(opened.UnverifiedSigs) != 0 {
		return fmt.Errorf("%d signatures verified, %d not: %s", len(opened.Sigs), len(opened.UnverifiedSigs), text)
	}
	return nil
}

func (c *client) cosigned(l *log, verifier note.Verifier, old, size int64) error {
	body, checkpoint, err := l.submission(old, size)
	if err != nil {
		return err
	}
	status, _, answer, err := c.post(body)
	if err != nil || status != 200 {
		return fmt.Errorf("%d to %d: %d %s %v", old, size, status, answer, err)
	}
	return c.both([]byte(checkpoint+answer), verifier)
}

func (c *client) refused(what string, l *log, old, size int64, expected int) (string, error) {
	body, _, err := l.submission(old, size)
	if err != nil {
		return "", err
	}
	status, kind, answer, err := c.post(body)
	if err != nil || status != expected {
		return "", fmt.Errorf("%s: %d %s %v", what, status, answer, err)
	}
	if status == 409 && kind != "text/x.tlog.size" {
		return "", fmt.Errorf("%s: its type is %q", what, kind)
	}
	return answer, nil
}

func run(path, url, vkey string) error {
	secret, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	public, err := os.ReadFile(path + ".vkey")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(string(secret))
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(public)))
	if err != nil {
		return err
	}
	witness, err := newCosigner(vkey)
	if err != nil {
		return err
	}
	c := &client{url, witness}
	const size = 600
	honest, err := grown(signer, size, func(n int64) string { return fmt.Sprint("entry ", n) })
	if err != nil {
		return err
	}
	seen := int64(0)
	for _, next := range []int64{1, 2, 3, 7, 8, 8, 100, 255, 256, 257, 511, 600} {
		if err := c.cosigned(honest, verifier, seen, next); err != nil {
			return err
		}
		seen = next
	}
	for _, old := range []int64{0, 100, 599} {
		told, err := c.refused("a rollback", honest, old, 599, 409)
		if err != nil || told != fmt.Sprintf("%d\n", seen) {
			return fmt.Errorf("a rollback was told %q: %w", told, err)
		}
	}
	other := func(n int64) string {
		if n == 321 {
			return "something else"
		}
		return fmt.Sprint("entry ", n)
	}
	fork, err := grown(signer, size+10, other)
	if err != nil {
		return err
	}
	if _, err := c.refused("a fork", fork, seen, size, 422); err != nil {
		return err
	}
	if _, err := c.refused("a fork that grew", fork, seen, size+10, 422); err != nil {
		return err
	}
	if err := c.strangers(honest, seen); err != nil {
		return err
	}
	kept, err := http.Get(fmt.Sprintf("%s/%x/checkpoint", url, sha256.Sum256([]byte(origin))))
	if err != nil {
		return err
	}
	defer kept.Body.Close()
	text, err := io.ReadAll(kept.Body)
	if err != nil || kept.StatusCode != 200 || !bytes.HasPrefix(text, []byte(fmt.Sprintf("%s\n%d\n", origin, seen))) {
		return fmt.Errorf("what monitors see: %d %s %v", kept.StatusCode, text, err)
	}
	return c.both(text, verifier)
}

// strangers are logs that the witness does not follow, and who signs for one that it does.
func (c *client) strangers(honest *log, seen int64) error {
	for name, expected := range map[string]int{origin: 403, "log.example/another": 404} {
		secret, _, err := note.GenerateKey(rand.Reader, name)
		if err != nil {
			return err
		}
		signer, err := note.NewSigner(secret)
		if err != nil {
			return err
		}
		forged := &log{signer, honest.hashes, honest.size}
		if _, err := c.refused(name+" by another key", forged, seen, seen, expected); err != nil {
			return err
		}
	}
	return nil
}
