package local_test

import (
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// What one topic may wait with does not hold up another that waits for less, whichever was written to first.
func TestShortestIntervalDecides(t *testing.T) {
	for _, first := range []string{"interval=24h", "interval=20ms"} {
		t.Run(first, func(t *testing.T) {
			fs := vfs.NewMem()
			s, err := local.Open(memOptions(fs))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			one := s.Log(create(t, s, "one", 1, "braid.durability", first), 0)
			defer one.Release()
			long := s.Log(create(t, s, "long", 1, "braid.durability", "interval=24h"), 0)
			defer long.Release()
			short := s.Log(create(t, s, "short", 1, "braid.durability", "interval=20ms"), 0)
			defer short.Release()
			told := make(chan struct{}, 100)
			fs.SetFault(func(op vfs.Op, name string) error {
				if op == vfs.OpSync && strings.HasSuffix(name, ".log") {
					told <- struct{}{}
				}
				return nil
			})
			wait := func() {
				t.Helper()
				select {
				case <-told:
				case <-time.After(3 * time.Minute):
					t.Fatal("no sync within the shorter interval")
				}
			}
			mustPut(t, one, made(t, 1, "a"))
			mustPut(t, long, made(t, 1, "b"))
			mustPut(t, short, made(t, 1, "c"))
			wait()
			// And once more, from where nothing waits.
			mustPut(t, long, made(t, 1, "d"))
			mustPut(t, short, made(t, 1, "e"))
			wait()
		})
	}
}
