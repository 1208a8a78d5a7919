package testkit

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// TestEtcd: a member that is killed, or stopped, and comes back has its address and what was written.
func TestEtcd(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, 1)
	cli, err := clientv3.New(clientv3.Config{Endpoints: e.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := cli.Put(ctx, "key", "value"); err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]func() error{
		"kill -9": func() error {
			if err := e.Kill(); err != nil {
				return err
			}
			return e.Start(ctx)
		},
		"a stop": func() error {
			if err := e.Members()[0].Stop(); err != nil {
				return err
			}
			return e.Start(ctx)
		},
		"SIGSTOP": func() error {
			if err := e.Pause(); err != nil {
				return err
			}
			if _, err := e.status(ctx, e.Members()[0]); err == nil {
				t.Error("a stopped member answers")
			}
			return e.Resume()
		},
	} {
		if err := fault(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err := poll(ctx, func() error {
			call, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			r, err := cli.Get(call, "key")
			if err == nil && (len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "value") {
				t.Fatalf("after %s: %v", name, r.Kvs)
			}
			return err
		})
		if err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
	}
	if m, err := e.Leader(ctx); err != nil || m != e.Members()[0] {
		t.Errorf("leader: %v, %v", m, err)
	}
}
