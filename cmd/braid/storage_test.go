package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

// localDirectory makes the directory of a local cluster: two topics with a segment each, and
// a little in the shared log.
func localDirectory(t *testing.T) string {
	dir := t.TempDir()
	var topics []span.Topic
	open := func(flush int64) *local.Store {
		s, err := local.Open(local.Options{Dir: dir, Name: "a", FlushBytes: flush, LogFileBytes: 64 << 10, LowSpace: -1, MinSpace: -1,
			Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	put := func(s *local.Store, topic span.Topic, b *batch.Builder) {
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		l := s.Log(topic, 0)
		defer l.Release()
		done := make(chan struct{})
		a := &span.Append{Batch: raw, Done: func(*span.Append) { close(done) }}
		l.Append(a)
		<-done
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	record := func(i int) batch.Record {
		return batch.Record{Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value-%d", i)}
	}
	s := open(1)
	for _, name := range []string{"fine", "hurt"} {
		topic, err := s.Create(context.Background(), span.Spec{Name: name, Partitions: 1, Config: map[string]string{"retention.ms": "-1"}})
		if err != nil {
			t.Fatal(err)
		}
		topics = append(topics, topic)
	}
	for i := range 3 {
		for _, topic := range topics {
			put(s, topic, batch.NewBuilder().Producer(1<<40, 0, int32(2*i)).Add(record(2*i)).Add(record(2*i+1)))
		}
	}
	for deadline := time.Now().Add(patience); s.Stats().Backlog > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the log is not written to segments")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(1 << 30)
	put(s, topics[0], batch.NewBuilder().Codec(batch.Gzip).Add(batch.Record{Timestamp: 1_700_000_000_100, Key: []byte("gone")}))
	marker, err := batch.Marker{ProducerID: 1 << 40, Commit: true, Timestamp: 1_700_000_000_200}.Build()
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(topics[0], 0)
	done := make(chan struct{})
	l.Append(&span.Append{Batch: marker, Done: func(*span.Append) { close(done) }})
	<-done
	l.Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flip damages one bit in the second batch of the second topic's segment.
func flip(t *testing.T, dir string) {
	path := filepath.Join(dir, "data", "2", "0-00000000000000000000.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("value-3"))
	if at < 0 {
		t.Fatal("the record is not in the segment")
	}
	b[at] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// content reads all files of a directory but the lock, which is opened by whoever looks.
func content(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStorage: what `braid storage` says of a whole directory and of a damaged one, as
// text and as JSON, with which exit code, and that nothing is changed by it.
func TestStorage(t *testing.T) {
	t.Parallel()
	whole, hurt := localDirectory(t), localDirectory(t)
	flip(t, hurt)
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "photo.jpg"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := t.TempDir()
	s, err := local.Open(local.Options{Dir: busy, Name: "a", LowSpace: -1, MinSpace: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tc := range []struct {
		name, args string
		code       int
		golden     bool
		says       string // on stdout or stderr
	}{
		{name: "check-whole", args: "check WHOLE -o json", golden: true},
		{name: "check-damaged", args: "check HURT -o json", code: exitFailed, golden: true},
		{name: "dump-whole", args: "dump WHOLE --topic fine --records -o json", golden: true},
		{name: "dump-damaged", args: "dump HURT --topic hurt --records -o json", code: exitFailed, golden: true},
		{name: "check text", args: "check WHOLE", says: "nothing is damaged"},
		{name: "check damaged text", args: "check HURT", code: exitFailed, says: "damaged: data/2/0-00000000000000000000.seg at 163, topic hurt partition 0 from offset 2"},
		{name: "dump text", args: "dump WHOLE --topic fine --records", says: `"key-1" = "value-1"`},
		{name: "dump damaged text", args: "dump HURT --topic hurt", code: exitFailed, says: "DAMAGED: "},
		{name: "dump beside the damage", args: "dump HURT --topic fine", says: "[0, 1]"},
		{name: "in use", args: "check BUSY", code: exitFailed, says: fmt.Sprintf("in use by pid %d", os.Getpid())},
		{name: "something else", args: "check FOREIGN", code: exitFailed, says: "it holds no BRAID file"},
		{name: "not there", args: "check WHOLE/nowhere", code: exitFailed, says: "it holds no BRAID file"},
		{name: "no such topic", args: "dump WHOLE --topic nobody", code: exitFailed, says: `no topic "nobody"`},
		{name: "no such partition", args: "dump WHOLE --topic fine --partition 7", code: exitFailed, says: "no partition 7"},
		{name: "no topic given", args: "dump WHOLE", code: exitUsage, says: "--topic wants"},
		{name: "no directory given", args: "check", code: exitUsage, says: "directory of a local cluster"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := content(t, hurt)
			var out, errs strings.Builder
			args := strings.Fields("storage " + strings.NewReplacer("WHOLE", whole, "HURT", hurt, "FOREIGN", foreign, "BUSY", busy).Replace(tc.args))
			if code := run(t.Context(), args, streams{strings.NewReader(""), &out, &errs}); code != tc.code {
				t.Errorf("exit %d, want %d\n%s%s", code, tc.code, out.String(), errs.String())
			}
			if !strings.Contains(out.String()+errs.String(), tc.says) {
				t.Errorf("want %q in:\n%s%s", tc.says, out.String(), errs.String())
			}
			if tc.golden {
				storageGolden(t, tc.name, out.String())
			}
			for path, was := range before {
				if is := content(t, hurt)[path]; is != was {
					t.Errorf("%s was changed", path)
				}
			}
		})
	}
}

// storageGolden compares JSON values, one behind the other, with a golden file.
func storageGolden(t *testing.T, name, out string) {
	t.Helper()
	var got bytes.Buffer
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		b, err := json.MarshalIndent(steady(v, false), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got.Write(append(b, '\n'))
	}
	path := filepath.Join("testdata", "json", "storage-"+name+".json")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got.Bytes(), want)
	}
}
