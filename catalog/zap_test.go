package catalog

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestEtcdLog: errors of etcd are warnings of ours, except what every fresh store says.
func TestEtcdLog(t *testing.T) {
	var b bytes.Buffer
	l := zapToSlog(slog.New(slog.NewTextHandler(&b, nil)), nil)
	l.Error("failed to update storage version")
	if b.Len() > 0 {
		t.Errorf("logged: %s", b.String())
	}
	l.Error("disk is gone")
	if !strings.Contains(b.String(), "level=WARN") || !strings.Contains(b.String(), "disk is gone") {
		t.Errorf("logged: %s", b.String())
	}
}

// TestEtcdEnds: what etcd would end the process for is an error in the log, and a reason that says where and
// what to do. What asked for it goes no further.
func TestEtcdEnds(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "write", Path: "wal", Err: syscall.ENOSPC}, "no space is left there: free some, then start again"},
		{errors.New("input/output error"), "start again when"},
	} {
		for name, log := range map[string]func(*zap.Logger, string, ...zap.Field){"fatal": (*zap.Logger).Fatal, "panic": (*zap.Logger).Panic} {
			var b bytes.Buffer
			e := newEnd("/data/catalog")
			l := zapToSlog(slog.New(slog.NewTextHandler(&b, nil)), nil).WithOptions(zap.WithFatalHook(parts{e}), zap.WithPanicHook(parts{e}))
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				log(l, "failed to save", zap.Error(c.err))
				t.Error("etcd goes on")
			}()
			<-gone
			got := <-e.why
			if !errors.Is(got, ErrEnded) || !errors.Is(got, c.err) || !strings.Contains(got.Error(), c.want) || !strings.Contains(got.Error(), "/data/catalog") {
				t.Errorf("%s: %v", name, got)
			}
			if got := b.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, c.err.Error()) {
				t.Errorf("%s: logged: %s", name, got)
			}
		}
	}
}

// parts ends the goroutine that asked where an end would have it stand still, which would be a leak here.
type parts struct{ *end }

func (p parts) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	p.tell(p.whyOf(entry, fields))
	runtime.Goexit()
}
