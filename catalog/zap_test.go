package catalog

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
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

// TestEtcdEnds: what ends the process is an error that says what to do.
func TestEtcdEnds(t *testing.T) {
	var b bytes.Buffer
	core := zapToSlog(slog.New(slog.NewTextHandler(&b, nil)), nil).Core()
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "write", Path: "wal", Err: syscall.ENOSPC}, "make room"},
		{errors.New("input/output error"), "cannot go on"},
	} {
		b.Reset()
		// Past the logger, which would end the test with it.
		if err := core.Write(zapcore.Entry{Level: zapcore.FatalLevel, Message: "failed to save"}, []zapcore.Field{zap.Error(c.err)}); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, c.want) || !strings.Contains(got, c.err.Error()) {
			t.Errorf("logged: %s", got)
		}
	}
}
