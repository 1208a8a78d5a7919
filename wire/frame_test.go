package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func frameOf(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// pieces is a reader that returns what was sent in the pieces it was sent in.
type pieces struct {
	left  [][]byte
	reads int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.reads++
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	return n, nil
}

func TestFramesInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []byte
		var want [][]byte
		for range rapid.IntRange(0, 6).Draw(t, "frames") {
			n := rapid.SampledFrom([]int{0, 1, 7, 4096, readAhead - 4, readAhead, firstGrant, firstGrant + 1, 3*firstGrant + 5}).Draw(t, "size")
			body := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
			want = append(want, body)
			all = append(all, frameOf(body)...)
		}
		src := &pieces{}
		for len(all) > 0 {
			n := min(len(all), rapid.SampledFrom([]int{1, 2, 3, 5, 1000, readAhead, 1 << 20}).Draw(t, "piece"))
			src.left = append(src.left, all[:n])
			all = all[n:]
		}
		f := NewFrameReader(src, 1<<20)
		for i, w := range want {
			buf, err := f.Next()
			if err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			if !bytes.Equal(buf.B, w) {
				t.Fatalf("frame %d: %d bytes, want %d", i, len(buf.B), len(w))
			}
			buf.Release()
		}
		if _, err := f.Next(); err != io.EOF { //nolint:errorlint // io.EOF itself is promised
			t.Fatalf("at the end: %v", err)
		}
	})
}

// A peer that is not known as busy costs a small read first, and the rest of the
// frame that it cut.
func TestSmallFramesThatCameTogetherCostFewReads(t *testing.T) {
	all := bytes.Repeat(frameOf(make([]byte, 100)), 20)
	src := &pieces{left: [][]byte{all}}
	f := NewFrameReader(src, 1000)
	for range 20 {
		buf, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		buf.Release()
	}
	if src.reads > 3 || f.Buffered() != 0 {
		t.Fatalf("%d reads, %d bytes buffered", src.reads, f.Buffered())
	}
	// When it pauses, the storage for bursts is given back.
	src.left = [][]byte{frameOf(make([]byte, 10))}
	buf, err := f.Next()
	if err != nil {
		t.Fatal(err)
	}
	buf.Release()
	if _, err := f.Next(); err != io.EOF || f.ahead != nil { //nolint:errorlint // io.EOF itself is promised
		t.Fatalf("%v, ahead %v", err, f.ahead)
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	broken := errors.New("connection reset")
	cases := []struct {
		name string
		in   io.Reader
		want error
	}{
		{"nothing", bytes.NewReader(nil), io.EOF},
		{"half a size", bytes.NewReader([]byte{0, 0}), io.ErrUnexpectedEOF},
		{"half a frame", bytes.NewReader([]byte{0, 0, 0, 9, 1, 2}), io.ErrUnexpectedEOF},
		{"negative size", bytes.NewReader([]byte{0xff, 0, 0, 0}), ErrFrameSize},
		{"over the limit", bytes.NewReader([]byte{0, 1, 0, 1}), ErrFrameTooLarge},
		{"TLS", bytes.NewReader([]byte{0x16, 3, 1, 2, 0, 1, 0}), ErrTLS},
		{"GET", bytes.NewReader([]byte("GET / HTTP/1.1\r\n")), ErrHTTP},
		{"POST", bytes.NewReader([]byte("POST /topics HTTP/1.1\r\n")), ErrHTTP},
		{"HTTP/2", bytes.NewReader([]byte("PRI * HTTP/2.0\r\n")), ErrHTTP},
		{"broken", io.MultiReader(bytes.NewReader([]byte{0, 0}), iotest.ErrReader(broken)), broken},
		{"broken in a frame", io.MultiReader(bytes.NewReader([]byte{0, 0, 0, 9, 1}), iotest.ErrReader(broken)), broken},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewFrameReader(c.in, 1<<16).Next(); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// A peer that announces the largest frame and sends little of it costs little.
func TestFrameMemoryFollowsWhatArrived(t *testing.T) {
	for _, sent := range []int{0, 1000, firstGrant, firstGrant + 1, 1 << 20, 5 << 20} {
		in := append([]byte{0x06, 0x40, 0, 0}, make([]byte, sent)...) // announces 100 MiB
		// The allocation of a doubling buffer sums up to at most 4 times its content.
		limit := 4*sent + 3*firstGrant
		got := allocated(limit, func() {
			f := NewFrameReader(bytes.NewReader(in), DefaultMaxFrame)
			if _, err := f.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
		})
		if got > limit {
			t.Errorf("%d bytes sent: %d allocated, limit %d", sent, got, limit)
		}
	}
}

// A peer that has sent a large frame gets the room for the next at once.
func TestProvenPeerIsReadInLargePieces(t *testing.T) {
	body := frameOf(make([]byte, 1<<20))
	src := &pieces{left: [][]byte{body, body}}
	f := NewFrameReader(src, DefaultMaxFrame)
	var reads [2]int
	for i := range reads {
		before := src.reads
		buf, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		buf.Release()
		reads[i] = src.reads - before
	}
	if reads[1] != 2 || reads[0] <= reads[1] {
		t.Fatalf("reads %v: the second frame takes one for its head and one for the rest", reads)
	}
}

func TestFrameReaderReusesBuffers(t *testing.T) {
	body := frameOf(make([]byte, 300<<10))
	src := bytes.NewReader(nil)
	f := NewFrameReader(src, DefaultMaxFrame)
	one := func() {
		src.Reset(body)
		buf, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		buf.Release()
	}
	one()
	if n := testing.AllocsPerRun(50, one); n > 0.5 {
		t.Fatalf("%v allocations per frame", n)
	}
}

func TestBufferIsPooledAfterTheLastRelease(t *testing.T) {
	b := NewBuffer(5000)
	if len(b.B) != 5000 || b.Cap() != 8192 {
		t.Fatalf("length %d, capacity %d", len(b.B), b.Cap())
	}
	b.Retain()
	b.Release()
	if b.B == nil {
		t.Fatal("gone while it is still held")
	}
	b.Release()
	if b.B != nil {
		t.Fatal("still readable after the last release")
	}
	for i, misuse := range []func(){func() { b.Retain() }, b.Release, func() { b.Retain() }, b.Release} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("misuse %d after the last release went through", i)
				}
			}()
			misuse()
		}()
	}
}

func TestBuffersUnderConcurrency(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				b := NewBuffer(1 + i*37)
				for j := range b.B {
					b.B[j] = byte(g)
				}
				inner := b.Retain()
				var done sync.WaitGroup
				done.Go(func() {
					defer inner.Release()
					for _, c := range inner.B {
						if c != byte(g) {
							t.Error("another owner wrote into the buffer")
							return
						}
					}
				})
				b.Release()
				done.Wait()
			}
		})
	}
	wg.Wait()
}

// The bytes arrive as they are over a real connection, with the runs unmoved.
func TestScatterOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan []byte, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var s Scatter
	var want []byte
	run := bytes.Repeat([]byte("r"), 100_000)
	for i := range 3 {
		resp := FetchResponse{}
		for j := range 20 {
			resp.AddTopic([]byte{'t', byte('a' + j)}, [16]byte{})
			p := NewFetchResult(int32(j), None)
			p.Records = run[:j*1000]
			resp.AddPartition(p)
		}
		if err := resp.AppendFrame(&s, 12, int32(i)); err != nil {
			t.Fatal(err)
		}
	}
	want = s.Bytes()
	if aliased := s.Pieces()[1]; &aliased[0] != &run[0] {
		t.Fatal("records were copied")
	}
	n, err := s.WriteTo(c)
	if err != nil || n != int64(len(want)) {
		t.Fatal(n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Fatalf("%d bytes arrived, want %d", len(all), len(want))
	}
	// Every frame's size is right, though pieces moved while they were written.
	f := NewFrameReader(bytes.NewReader(want), DefaultMaxFrame)
	for i := range 3 {
		buf, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		id, body, err := ParseResponseHeader(buf.B, FetchKey, 12)
		if err != nil || id != int32(i) {
			t.Fatal(id, err)
		}
		var resp FetchResponse
		if err := resp.Decode(12, body); err != nil {
			t.Fatal(err)
		}
		if len(resp.Partitions) != 20 || len(resp.Partitions[19].Records) != 19_000 {
			t.Fatalf("frame %d: %d partitions", i, len(resp.Partitions))
		}
		buf.Release()
	}
	s.Reset()
	if s.Len() != 0 || len(s.Pieces()) != 0 {
		t.Fatal("not empty after Reset")
	}
}

// calls counts writes and fails from the n-th on.
type calls struct {
	bytes.Buffer
	n, failAt int
}

func (c *calls) Write(b []byte) (int, error) {
	c.n++
	if c.n == c.failAt {
		return 0, io.ErrClosedPipe
	}
	return c.Buffer.Write(b)
}

func TestScatterWithoutVectoredWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Scatter
		var want []byte
		for range rapid.IntRange(0, 30).Draw(t, "pieces") {
			n := rapid.SampledFrom([]int{0, 1, 600, 30_000, chunk - 1, chunk, chunk + 1, 3 * chunk}).Draw(t, "size")
			p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
			s.Append([]byte("head"))
			s.AppendRun(p)
			want = append(append(want, "head"...), p...)
		}
		var c calls
		n, err := s.WriteTo(&c)
		if err != nil || n != int64(len(want)) || !bytes.Equal(c.Bytes(), want) {
			t.Fatalf("%d of %d bytes written: %v", n, len(want), err)
		}
		if most := 2 + 2*len(want)/chunk; c.n > most+2 {
			t.Fatalf("%d writes for %d bytes", c.n, len(want))
		}
		if c.n > 0 {
			broken := calls{failAt: rapid.IntRange(1, c.n).Draw(t, "fail at")}
			n, err := s.WriteTo(&broken)
			if !errors.Is(err, io.ErrClosedPipe) || n != int64(broken.Len()) {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
	})
}

// The memory of a large frame is asked for once, before it is there, and that of a small one never.
func TestLargeFramesAskForRoom(t *testing.T) {
	no := errors.New("no room")
	for _, c := range []struct {
		name  string
		sizes []int
		deny  bool
		asked []int
		err   error
	}{
		{"small", []int{100, FreeFrame, FreeFrame}, false, nil, io.EOF},
		{"large", []int{FreeFrame + 1, 3 << 20, 5, 40 << 20}, false, []int{2 * FreeFrame, 4 << 20, 40 << 20}, io.EOF},
		{"refused", []int{FreeFrame, 1 << 20}, true, []int{1 << 20}, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []byte
			for _, n := range c.sizes {
				all = append(all, frameOf(bytes.Repeat([]byte{byte(n)}, n))...)
			}
			f := NewFrameReader(bytes.NewReader(all), DefaultMaxFrame)
			var asked []int
			f.SetRoom(func(n int) error {
				asked = append(asked, n)
				if c.deny {
					return no
				}
				return nil
			})
			var err error
			for i := 0; err == nil; i++ {
				before := len(asked)
				var buf *Buffer
				if buf, err = f.Next(); err != nil {
					break
				}
				if len(buf.B) != c.sizes[i] || buf.B[len(buf.B)-1] != byte(c.sizes[i]) {
					t.Fatalf("frame %d has %d bytes", i, len(buf.B))
				}
				if len(asked) > before && asked[before] != buf.Cap() || len(asked) == before && buf.Cap() > FreeFrame {
					t.Errorf("frame %d holds %d bytes, asked for were %v", i, buf.Cap(), asked[before:])
				}
				buf.Release()
			}
			if !errors.Is(err, c.err) || !slices.Equal(asked, c.asked) {
				t.Errorf("asked for %v, then %v", asked, err)
			}
		})
	}
}

// A peer that announces much gets no room for it before it has sent what is free.
func TestAnnouncedFramesAskForNothing(t *testing.T) {
	in := append([]byte{0x06, 0x40, 0, 0}, make([]byte, FreeFrame-1)...)
	f := NewFrameReader(bytes.NewReader(in), DefaultMaxFrame)
	f.SetRoom(func(n int) error { t.Errorf("%d bytes are asked for", n); return nil })
	if _, err := f.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}

// Nor does one that has sent a large frame, for a frame that is much larger.
func TestProvenPeersAskForWhatTheyProved(t *testing.T) {
	in := append(frameOf(make([]byte, 1<<20)), append(frameOf(make([]byte, 2<<20)), 0x06, 0x40, 0, 0)...)
	f := NewFrameReader(bytes.NewReader(in), DefaultMaxFrame)
	var asked []int
	f.SetRoom(func(n int) error { asked = append(asked, n); return nil })
	for range 2 {
		buf, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		buf.Release()
	}
	if _, err := f.Next(); !errors.Is(err, io.ErrUnexpectedEOF) || !slices.Equal(asked, []int{1 << 20, 2 << 20}) {
		t.Errorf("asked for %v, then %v", asked, err)
	}
}

// loop is an endless source of the same bytes, which come in reads of any size.
type loop struct {
	b  []byte
	at int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.at:])
	l.at = (l.at + n) % len(l.b)
	return n, nil
}

func BenchmarkFrameReader(b *testing.B) {
	for name, size := range map[string]int{"100": 100, "20k": 20 << 10, "1M": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			f := NewFrameReader(&loop{b: frameOf(make([]byte, size))}, DefaultMaxFrame)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for range b.N {
				buf, err := f.Next()
				if err != nil {
					b.Fatal(err)
				}
				buf.Release()
			}
		})
	}
}
