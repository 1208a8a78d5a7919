package vfs

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestContent compares contents and their copies with plain bytes, through whatever is done to them.
func TestContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 5 * pageSize
		contents, plain := []*content{{}}, [][]byte{nil}
		resized := func(b []byte, size int) []byte {
			return append(b[:min(len(b), size):min(len(b), size)], make([]byte, max(0, size-len(b)))...)
		}
		pick := func() int { return rapid.IntRange(0, len(contents)-1).Draw(t, "which") }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for i, c := range contents {
					got := bytes.Repeat([]byte{0xee}, most+1)
					if n := c.read(got, 0); n != len(plain[i]) || c.size != int64(n) || !bytes.Equal(got[:n], plain[i]) {
						t.Fatalf("content %d of %d bytes, read %d, want %d", i, c.size, n, len(plain[i]))
					}
				}
			},
			"write": func(t *rapid.T) {
				i := pick()
				at, n := rapid.IntRange(0, most/2).Draw(t, "at"), rapid.IntRange(1, most/2).Draw(t, "bytes")
				b := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
				contents[i].write(b, int64(at))
				plain[i] = resized(plain[i], max(len(plain[i]), at+n))
				copy(plain[i][at:], b)
			},
			"resize": func(t *rapid.T) {
				i, n := pick(), rapid.IntRange(0, most).Draw(t, "size")
				contents[i].resize(int64(n))
				plain[i] = resized(plain[i], n)
			},
			"flip": func(t *rapid.T) {
				i, at := pick(), rapid.IntRange(0, most).Draw(t, "at")
				contents[i].flip(int64(at), 0x41)
				if at < len(plain[i]) {
					plain[i][at] ^= 0x41
				}
			},
			"read": func(t *rapid.T) {
				i, at := pick(), rapid.IntRange(0, most).Draw(t, "at")
				got := make([]byte, rapid.IntRange(0, most).Draw(t, "bytes"))
				want := plain[i][min(at, len(plain[i])):]
				want = want[:min(len(want), len(got))]
				if n := contents[i].read(got, int64(at)); !bytes.Equal(got[:n], want) {
					t.Fatalf("at %d: %d bytes, want %d", at, n, len(want))
				}
			},
			"clone": func(t *rapid.T) {
				if len(contents) > 5 {
					t.Skip("enough")
				}
				i := pick()
				c := contents[i].clone()
				contents, plain = append(contents, &c), append(plain, bytes.Clone(plain[i]))
			},
		})
	})
}
