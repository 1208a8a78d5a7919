package catalog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
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
