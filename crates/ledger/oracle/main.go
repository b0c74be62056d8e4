// Verifies a log's folder with golang.org/x/mod/sumdb, which shares no code with crates/ledger:
// the checkpoint's signature, every hash tile against the signed root, and every entry's inclusion.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run crates/ledger/oracle/main.go DIR VKEY-FILE
//
// DIR is a tlog-tiles folder such as data/calls, VKEY-FILE the log's public key such as
// data/calls.vkey. Prints one line and exits 0 if all holds; otherwise says what does not and exits 1.
// Debian has what it needs in golang-go and golang-golang-x-mod-dev.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8
const width = 1 << height

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: main.go DIR VKEY-FILE")
		os.Exit(2)
	}
	tree, tiles, err := verify(folder(os.Args[1]), os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "not sound:", err)
		os.Exit(1)
	}
	fmt.Printf("sound: %d entries and %d tiles under %v\n", tree.N, tiles, tree.Hash)
}

func verify(dir folder, vkeyFile string) (tree tlog.Tree, tiles int, err error) {
	if tree, err = dir.checkpoint(vkeyFile); err != nil {
		return tree, 0, fmt.Errorf("checkpoint: %w", err)
	}
	// Hashes that this reader returns are already proved to be in the tree.
	reader := tlog.TileHashReader(tree, dir)
	for _, tile := range finalTiles(tree.N) {
		found, err := dir.tile(tile)
		if err != nil {
			return tree, tiles, err
		}
		if proved, err := tlog.ReadTileData(tile, reader); err != nil || !bytes.Equal(found, proved) {
			return tree, tiles, fmt.Errorf("%s is not in the tree: %v", path(tile), err)
		}
		tiles++
	}
	for first := int64(0); first < tree.N; first += width {
		entries, err := dir.bundle(first, tree.N)
		if err != nil {
			return tree, tiles, err
		}
		for i, entry := range entries {
			index := first + int64(i)
			proof, err := tlog.ProveRecord(tree.N, index, reader)
			if err == nil {
				err = tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry))
			}
			if err != nil {
				return tree, tiles, fmt.Errorf("entry %d: %w", index, err)
			}
		}
	}
	return tree, tiles, nil
}

// finalTiles has the full tiles of a tree and the partial one at the end of each level.
func finalTiles(size int64) (tiles []tlog.Tile) {
	for level, count := 0, size; count > 0; level, count = level+1, count>>height {
		for n := int64(0); n*width < count; n++ {
			w := width
			if rest := count - n*width; rest < width {
				w = int(rest)
			}
			tiles = append(tiles, tlog.Tile{H: height, L: level, N: n, W: w})
		}
	}
	return tiles
}

// path is the tile's path in C2SP's form, which does not name the height.
func path(tile tlog.Tile) string {
	return strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
}

type folder string

func (dir folder) checkpoint(vkeyFile string) (tree tlog.Tree, err error) {
	vkey, err := os.ReadFile(vkeyFile)
	if err != nil {
		return tree, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return tree, err
	}
	msg, err := os.ReadFile(filepath.Join(string(dir), "checkpoint"))
	if err != nil {
		return tree, err
	}
	signed, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("not three lines that begin with %q", verifier.Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil || fmt.Sprint(tree.N) != lines[1] {
		return tree, fmt.Errorf("%q is not a size", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tree, fmt.Errorf("%q is not a hash", lines[2])
	}
	copy(tree.Hash[:], root)
	empty, err := tlog.ParseHash("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
	if tree.N == 0 && (err != nil || tree.Hash != empty) {
		return tree, fmt.Errorf("%v is not the root of the empty tree", tree.Hash)
	}
	return tree, nil
}

// read reads a tile or bundle; a partial one may have given way to the full one.
func (dir folder) read(path string) (data []byte, whole bool, err error) {
	data, err = os.ReadFile(filepath.Join(string(dir), filepath.FromSlash(path)))
	full, _, partial := strings.Cut(path, ".p/")
	if partial && os.IsNotExist(err) {
		data, err = os.ReadFile(filepath.Join(string(dir), filepath.FromSlash(full)))
		return data, false, err
	}
	return data, true, err
}

func (dir folder) tile(tile tlog.Tile) ([]byte, error) {
	data, whole, err := dir.read(path(tile))
	if err != nil {
		return nil, err
	}
	want := tile.W * tlog.HashSize
	if len(data) < want || whole && len(data) != want {
		return nil, fmt.Errorf("%s has %d bytes", path(tile), len(data))
	}
	return data[:want], nil
}

// bundle reads the entries from first, which begins a bundle, to its end or to that of the tree.
func (dir folder) bundle(first, size int64) (entries [][]byte, err error) {
	tile := tlog.Tile{H: height, L: -1, N: first / width, W: width}
	if rest := size - first; rest < width {
		tile.W = int(rest)
	}
	name := strings.Replace(path(tile), "tile/data/", "tile/entries/", 1)
	data, whole, err := dir.read(name)
	if err != nil {
		return nil, err
	}
	for len(data) >= 2 && len(entries) < tile.W {
		length := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; len(data) < length {
			return nil, fmt.Errorf("%s ends within an entry", name)
		}
		entries, data = append(entries, data[:length]), data[length:]
	}
	if len(entries) != tile.W || whole && len(data) > 0 {
		return nil, fmt.Errorf("%s does not have %d entries", name, tile.W)
	}
	return entries, nil
}

// For tlog.TileReader.

func (dir folder) Height() int                         { return height }
func (dir folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (dir folder) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		bytes, err := dir.tile(tile)
		if err != nil {
			return nil, err
		}
		data = append(data, bytes)
	}
	return data, nil
}
