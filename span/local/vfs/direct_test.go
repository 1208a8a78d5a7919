package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/braidstream/braid/span/local/vfs"
)

// TestDirect mixes direct and cached access to one file: what one wrote the other reads.
func TestDirect(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"os": vfs.OS{}, "mem": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := fs.MkdirAll(dir); err != nil {
				t.Fatal(err)
			}
			f, err := fs.Create(filepath.Join(dir, "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := vfs.Aligned(4 * vfs.Block)
			if uintptr(unsafe.Pointer(&want[0]))%vfs.Block != 0 || len(want) != cap(want) {
				t.Fatal("not aligned")
			}
			for i := range want {
				want[i] = byte(i / 7)
			}
			if n, err := f.WriteDirect(want, 0); n != len(want) || err != nil {
				t.Fatal(n, err)
			}
			// Over it, through the cache, and past its end by an odd number of bytes.
			odd := []byte("written through the cache")
			if _, err := f.WriteAt(odd, int64(len(want))-10); err != nil {
				t.Fatal(err)
			}
			want = append(want[:len(want)-10:len(want)], odd...)
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			got := vfs.Aligned(8 * vfs.Block)
			n, err := f.ReadDirect(got, 0)
			if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
				t.Fatalf("direct read of %d bytes, %v; want %d", n, err, len(want))
			}
			if n, err := f.ReadDirect(got[:vfs.Block], 2*vfs.Block); n != vfs.Block || err != nil || !bytes.Equal(got[:n], want[2*vfs.Block:][:n]) {
				t.Fatal(n, err)
			}
			if n, err := f.ReadDirect(got[:vfs.Block], 1<<20); n != 0 || !errors.Is(err, io.EOF) {
				t.Fatal(n, err)
			}
			if n, err := f.ReadAt(got[:len(want)], 0); err != nil || !bytes.Equal(got[:n], want) {
				t.Fatal(n, err)
			}
			f.Cached(0, int64(len(want))) // either is right; it must not fail
			mem, unmap, err := f.Map(vfs.Block, len(want)-vfs.Block)
			if err != nil || !bytes.Equal(mem, want[vfs.Block:]) {
				t.Fatal(err)
			}
			if err := unmap(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := f.Map(1, vfs.Block); !errors.Is(err, syscall.EINVAL) {
				t.Fatalf("map from an odd byte: %v", err)
			}
		})
	}
}

// TestDirectWithoutDescriptor: where the file cannot be opened once more by its name, or that is another file's by
// now, direct access goes by the descriptor that is there.
func TestDirectWithoutDescriptor(t *testing.T) {
	for what, spoil := range map[string]func(name string) error{
		"removed": os.Remove,
		"replaced": func(name string) error {
			if err := os.WriteFile(name+".new", make([]byte, 4*vfs.Block), 0o600); err != nil {
				return err
			}
			return os.Rename(name+".new", name)
		},
		"renamed": func(name string) error { return os.Rename(name, name+".old") },
	} {
		t.Run(what, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "f")
			f, err := vfs.OS{}.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := vfs.Aligned(2 * vfs.Block)
			for i := range want {
				want[i] = byte(i / 7)
			}
			if _, err := f.WriteDirect(want, 0); err != nil {
				t.Fatal(err)
			}
			if err := spoil(name); err != nil {
				t.Fatal(err)
			}
			if n, err := f.WriteDirect(want, 2*vfs.Block); n != len(want) || err != nil {
				t.Fatal(n, err)
			}
			got := vfs.Aligned(4 * vfs.Block)
			if n, err := f.ReadDirect(got, 0); n != len(got) || err != nil || !bytes.Equal(got, append(bytes.Clone(want), want...)) {
				t.Fatal(n, err)
			}
			if b, err := os.ReadFile(name); err == nil && !bytes.Equal(b, make([]byte, len(b))) {
				t.Error("the other file was written to")
			}
		})
	}
}
