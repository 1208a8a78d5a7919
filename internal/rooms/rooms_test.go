// Package rooms holds the rule of the house: a package imports only packages of
// rooms below its own.
package rooms

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/braidstream/braid"

// floors lists the rooms from the bottom up. Rooms on one floor do not import
// each other, except that a room's own subpackages belong to it.
var floors = [][]string{
	{"internal/nearest", "fair"},
	{"wire", "batch"},
	{"catalog"},
	{"span"},
	{"chain"},
	{"tenant"},
	{"coordinator"},
	{"gateway"},
	{"controller"},
	{"router"},
	{"console"},
	{"client"},
	{"verify"},
	{"cmd"},
}

// exceptions are imports on one floor that the design names.
var exceptions = map[[2]string]bool{
	// Frames carry batches: the walkers hand out what batch then parses.
	{"wire", "batch"}: true,
	// Limits and defaults of batches are those of the protocol.
	{"batch", "wire"}: false,
}

// testOnly rooms may be imported by tests of any room.
var testOnly = []string{"internal/testkit", "internal/clients", "internal/bench", "verify"}

func TestRoomsImportOnlyDownwards(t *testing.T) {
	floorOf := map[string]int{}
	for i, rooms := range floors {
		for _, r := range rooms {
			floorOf[r] = i
		}
	}
	room := func(path string) (string, int, bool) {
		for p := path; p != "." && p != ""; p = filepath.Dir(p) {
			if f, ok := floorOf[p]; ok {
				return p, f, true
			}
		}
		return "", 0, false
	}
	root := filepath.Join("..", "..")
	checked := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		from, fromFloor, ok := room(filepath.Dir(rel))
		if !ok {
			for _, r := range append([]string{"internal/rooms"}, testOnly...) {
				if strings.HasPrefix(rel, r+string(filepath.Separator)) {
					return nil
				}
			}
			t.Errorf("%s: belongs to no room; give it one in internal/rooms", rel)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range file.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			sub, ours := strings.CutPrefix(p, module+"/")
			if !ours {
				continue
			}
			checked++
			if strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(filepath.Dir(rel), "test") {
				if allowedInTests(sub) {
					continue
				}
			}
			to, toFloor, ok := room(sub)
			switch {
			case !ok:
				t.Errorf("%s imports %s, which only tests may", rel, sub)
			case to == from:
			case exceptions[[2]string{from, to}]:
			case strings.HasSuffix(rel, "_test.go") && toFloor <= fromFloor:
			case toFloor >= fromFloor:
				t.Errorf("%s (room %s) imports %s (room %s), which is not below it", rel, from, sub, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Fatal("no import was checked: is the walk broken?")
	}
}

func allowedInTests(sub string) bool {
	for _, r := range testOnly {
		if sub == r || strings.HasPrefix(sub, r+"/") {
			return true
		}
	}
	return false
}
