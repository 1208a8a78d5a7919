package local_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestRestartsKeepFewLogFiles: each start goes on in another file of the log, and with little in each of them no
// flush is due for long. They do not pile up, neither after clean stops nor after kills.
func TestRestartsKeepFewLogFiles(t *testing.T) {
	for _, killed := range []bool{false, true} {
		fs := vfs.NewMem()
		o := memOptions(fs)
		o.LogFileBytes = 1 << 20
		var topic span.Topic
		var want []string
		for i := range 40 {
			o.FS = fs
			s, err := local.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				topic = create(t, s, "t", 1, "retention.ms", "-1")
			}
			l := s.Log(topic, 0)
			mustPut(t, l, made(t, 1, "v"))
			want = append(want, fmt.Sprintf("%d=v", i))
			if err := s.WatchFilesNow(); err != nil { // what the keeper begins with is done by then
				t.Fatal(err)
			}
			if got := readAll(t, l, 0); !slices.Equal(got, want) {
				t.Fatalf("start %d: %v", i, got)
			}
			n := 0
			for name := range fs.Sizes() {
				if strings.HasSuffix(name, ".log") {
					n++
				}
			}
			if n > 7 {
				t.Fatalf("start %d, killed %v: %d log files", i, killed, n)
			}
			if killed {
				fs = fs.Kill()
				_ = s.Close() // its file system is gone
			} else if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
