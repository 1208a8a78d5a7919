package vfs_test

import (
	"bytes"
	"errors"
	"io"
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
