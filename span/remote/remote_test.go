package remote_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/remote"
	"github.com/braidstream/braid/span/spantest"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m)) }

const token = "a shared secret"

var errUnknown = errors.New("no such store")

// engine opens a local store in a directory of the test.
func engine(t testing.TB, dir string) *local.Store {
	t.Helper()
	s, err := local.Open(local.Options{Dir: dir, Name: "here", MinSpace: -1, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve serves a store until the end of the test.
func serve(t testing.TB, l net.Listener, s span.Store) *remote.Server {
	t.Helper()
	srv := remote.Serve(l, token, func(name string) (span.Store, error) {
		if name != s.Name() {
			return nil, errUnknown
		}
		return s, nil
	})
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConformance(t *testing.T) {
	spantest.Run(t, func(t *testing.T) span.Store {
		s := engine(t, t.TempDir())
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		srv := serve(t, listen(t, "127.0.0.1:0"), s)
		return remote.Dial(srv.Addr().String(), token, "here")
	}, spantest.Capabilities{Control: true, ProducerBatches: true})
}

// A store without room is told apart from one that is down, here and over the wire.
func TestFull(t *testing.T) {
	s, err := local.Open(local.Options{Dir: t.TempDir(), Name: "here", MinSpace: 1 << 62, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := remote.Dial(serve(t, listen(t, "127.0.0.1:0"), s).Addr().String(), token, "here")
	defer client.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		here, err := s.Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !here.Full && time.Now().Before(end) {
			continue
		}
		there, err := client.Health(t.Context())
		if err != nil || !here.Full || here.Writable || !there.Full || there.Writable || !there.CanSeal || there.Detail != here.Detail {
			t.Fatalf("%+v, over the wire %+v, %v", here, there, err)
		}
		return
	}
}
