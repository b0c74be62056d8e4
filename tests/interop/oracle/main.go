// Reads a log that tipstaff wrote with Go's own reader of transparency logs.
//
//	oracle DATA LOG [PROOF]...
//
// DATA/LOG is a C2SP tlog-tiles folder and DATA/LOG.vkey the key that signs its checkpoints. Every
// entry is hashed and found under the signed root by an inclusion proof, every hash tile is compared
// with what the root implies, and the log is shown to have only grown. Each PROOF is a file in the C2SP tlog-proof format, to be checked against the same key.
// Nothing here is ours but the walk: hashes, proofs and signatures are golang.org/x/mod/sumdb's.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight  = 8
	bundleWidth = 1 << tileHeight
	// More heads than these are not compared one by one.
	headsMax = 64
)

func main() {
	if len(os.Args) < 3 {
		fail(errors.New("usage: oracle DATA LOG [PROOF]..."))
	}
	data, name := os.Args[1], os.Args[2]
	verifier, err := readVerifier(filepath.Join(data, name+".vkey"))
	if err != nil {
		fail(err)
	}
	folder := filepath.Join(data, name)
	text, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		fail(err)
	}
	head, err := openCheckpoint(text, verifier)
	if err != nil {
		fail(err)
	}
	hashes, err := checkEntries(folder, head)
	if err != nil {
		fail(err)
	}
	if err := checkTiles(folder, head); err != nil {
		fail(err)
	}
	if err := checkGrowth(folder, head); err != nil {
		fail(err)
	}
	for _, path := range os.Args[3:] {
		if err := checkProof(path, verifier, hashes); err != nil {
			fail(fmt.Errorf("%s: %w", path, err))
		}
	}
	fmt.Printf("%s: %d entries, %d proofs\n", name, head.N, len(os.Args[3:]))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func readVerifier(path string) (note.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(strings.TrimSpace(string(text)))
}

// openCheckpoint verifies a signed note and reads it as a checkpoint: origin, size, root.
func openCheckpoint(text []byte, verifier note.Verifier) (tlog.Tree, error) {
	signed, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of `%s`: %q", verifier.Name(), signed.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, fmt.Errorf("checkpoint: size %q", lines[1])
	}
	hash, err := parseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	return tlog.Tree{N: size, Hash: hash}, nil
}

func parseHash(text string) (tlog.Hash, error) {
	var hash tlog.Hash
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(decoded) != len(hash) {
		return hash, fmt.Errorf("hash %q", text)
	}
	copy(hash[:], decoded)
	return hash, nil
}

// tiles reads hash tiles from a folder; tlog checks each against the tree's head before it is used.
type tiles string

func (folder tiles) Height() int { return tileHeight }

func (folder tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range wanted {
		content, err := os.ReadFile(filepath.Join(string(folder), tilePath(tile)))
		if err != nil {
			// A partial tile may be gone where the full one is there.
			full := tile
			full.W = 1 << tileHeight
			content, err = os.ReadFile(filepath.Join(string(folder), tilePath(full)))
		}
		if err != nil {
			return nil, err
		}
		if len(content) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s: %d bytes", tilePath(tile), len(content))
		}
		read = append(read, content[:tile.W*tlog.HashSize])
	}
	return read, nil
}

func (folder tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// tilePath is C2SP's name of a tile: Go's own without the height.
func tilePath(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
}

// checkEntries hashes every entry and proves it under the head; it returns the hashes.
func checkEntries(folder string, head tlog.Tree) ([]tlog.Hash, error) {
	reader := tlog.TileHashReader(head, tiles(folder))
	var hashes []tlog.Hash
	for int64(len(hashes)) < head.N {
		first := int64(len(hashes))
		width := head.N - first
		if width > bundleWidth {
			width = bundleWidth
		}
		entries, err := readBundle(folder, first/bundleWidth, int(width))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			hashes = append(hashes, tlog.RecordHash(entry))
		}
	}
	for index, hash := range hashes {
		proof, err := tlog.ProveRecord(head.N, int64(index), reader)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		if err := tlog.CheckRecord(proof, head.N, head.Hash, int64(index), hash); err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
	}
	return hashes, nil
}

// readBundle reads an entry bundle: entries with their lengths before them, two bytes each.
func readBundle(folder string, n int64, width int) ([][]byte, error) {
	path := strings.Replace(tilePath(tlog.Tile{H: tileHeight, L: 0, N: n, W: width}), "tile/0/", "tile/entries/", 1)
	rest, err := os.ReadFile(filepath.Join(folder, path))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(rest) > 0 {
		if len(rest) < 2 {
			return nil, fmt.Errorf("%s: a length is cut off", path)
		}
		length := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+length {
			return nil, fmt.Errorf("%s: an entry is cut off", path)
		}
		entries = append(entries, rest[2:2+length])
		rest = rest[2+length:]
	}
	if len(entries) != width {
		return nil, fmt.Errorf("%s: %d entries, not %d", path, len(entries), width)
	}
	return entries, nil
}

// checkTiles compares every hash tile that the head implies with the one in the folder.
func checkTiles(folder string, head tlog.Tree) error {
	reader := tlog.TileHashReader(head, tiles(folder))
	for level := 0; head.N>>(tileHeight*level) > 0; level++ {
		hashes := head.N >> (tileHeight * level)
		for first := int64(0); first < hashes; first += bundleWidth {
			tile := tlog.Tile{H: tileHeight, L: level, N: first / bundleWidth, W: bundleWidth}
			if hashes-first < bundleWidth {
				tile.W = int(hashes - first)
			}
			kept, err := os.ReadFile(filepath.Join(folder, tilePath(tile)))
			if err != nil {
				return err
			}
			if proved, err := tlog.ReadTileData(tile, reader); err != nil || !bytes.Equal(kept, proved) {
				return fmt.Errorf("%s is not in the tree: %v", tilePath(tile), err)
			}
		}
	}
	return nil
}

// checkGrowth proves that the log at earlier sizes is a prefix of the log at its head.
func checkGrowth(folder string, head tlog.Tree) error {
	reader := tlog.TileHashReader(head, tiles(folder))
	step := head.N/headsMax + 1
	for size := int64(1); size < head.N; size += step {
		earlier, err := tlog.TreeHash(size, reader)
		if err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
		proof, err := tlog.ProveTree(head.N, size, reader)
		if err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
		if err := tlog.CheckTree(proof, head.N, head.Hash, size, earlier); err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
	}
	return nil
}

// checkProof checks an inclusion proof that tipstaff wrote for an entry of this log.
func checkProof(path string, verifier note.Verifier, hashes []tlog.Hash) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	above, checkpoint, found := strings.Cut(string(text), "\n\n")
	if !found {
		return errors.New("no checkpoint below the proof")
	}
	head, err := openCheckpoint([]byte(checkpoint), verifier)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	index := int64(-1)
	for number, line := range strings.Split(above, "\n") {
		switch {
		case number == 0:
			if line != "c2sp.org/tlog-proof@v1" {
				return fmt.Errorf("opens with %q", line)
			}
		case strings.HasPrefix(line, "extra "):
		case strings.HasPrefix(line, "index "):
			if index, err = strconv.ParseInt(strings.TrimPrefix(line, "index "), 10, 64); err != nil {
				return err
			}
		default:
			hash, err := parseHash(line)
			if err != nil {
				return err
			}
			proof = append(proof, hash)
		}
	}
	if index < 0 || index >= int64(len(hashes)) {
		return fmt.Errorf("index %d of %d entries", index, len(hashes))
	}
	return tlog.CheckRecord(proof, head.N, head.Hash, index, hashes[index])
}
