package local_test

import (
	"strings"
	"testing"

	"github.com/braidstream/braid/span/local"
)

// TestDumpGoesOn: a segment that is missing, or cut short, hides nothing of what lies behind it.
func TestDumpGoesOn(t *testing.T) {
	w := writeDirectory(t)
	name := ""
	for n := range w.fs.Sizes() {
		if strings.HasPrefix(n, "/data/data/1/") && (name == "" || n < name) {
			name = n
		}
	}
	fs := w.fs.Clone()
	if err := fs.Remove(name); err != nil {
		t.Fatal(err)
	}
	problems, last := 0, int64(-1)
	err := local.DumpFS(fs, "/data", "t0", 0, func(d local.Dumped) error {
		if d.Problem != "" {
			problems++
		} else {
			last = d.Header.LastOffset()
		}
		return nil
	})
	if err != nil || problems != 1 || last != int64(len(w.values[0]))-1 {
		t.Errorf("dump without %s: %d problems, last offset %d of %d, %v", name, problems, last, len(w.values[0]), err)
	}
	fs = w.fs.Clone()
	f, err := fs.OpenWrite(name)
	if err == nil {
		err = f.Truncate(fs.Sizes()[name] / 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := local.CheckFS(fs, "/data")
	if err != nil || len(r.Problems) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	said := false
	for _, p := range r.Problems {
		said = said || strings.Contains(p.Detail, "bytes are missing at its end")
		if strings.Contains(p.Detail, ": -") {
			t.Errorf("%q", p.Detail)
		}
	}
	if !said {
		t.Errorf("%+v", r.Problems)
	}
}
