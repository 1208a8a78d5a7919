package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// EmbeddedConfig describes an etcd that runs inside this process.
type EmbeddedConfig struct {
	// Dir is the data directory; made with mode 0700 if missing.
	Dir string
	// ListenClient is host:port for catalog clients; "" means 127.0.0.1:0.
	ListenClient string
	// Quota bounds the database in bytes; 0 means 2 GiB.
	Quota int64
	// NoSync leaves syncing out, for tests: what was acknowledged outlives the process, and
	// not the machine.
	NoSync bool
	Logger *slog.Logger
}

// Embedded is a running single-member etcd.
type Embedded struct {
	etcd *embed.Etcd
	grpc []*grpc.Server
	lock *os.File
	once sync.Once

	closing atomic.Bool
	end     *end
}

// closeGrace is how long Close lets requests of other processes end. Their
// watches never do: etcd itself would wait 7 s for them.
const closeGrace = 300 * time.Millisecond

// StartEmbedded starts etcd in this process and returns when it answers. Data
// are synced to disk before a write is acknowledged, but with NoSync. It fails with [ErrInUse]
// when another process has the directory.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded catalog: no directory given")
	}
	if cfg.ListenClient == "" {
		cfg.ListenClient = "127.0.0.1:0"
	}
	if cfg.Quota == 0 {
		cfg.Quota = 2 << 30
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded catalog: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	e := &Embedded{lock: lock, end: newEnd(cfg.Dir)}
	started := make(chan error, 1)
	go func() {
		var err error
		e.etcd, err = startEtcd(ctx, cfg, func(s *grpc.Server) { e.grpc = append(e.grpc, s) }, e)
		started <- err
	}()
	select {
	case err = <-started:
	case err = <-e.end.why:
		// What is left of it stands still, and keeps the directory's lock, until the process ends.
		return nil, err
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	go func() {
		// Closed when etcd has ended, after Close too.
		if err, ok := <-e.etcd.Err(); ok {
			e.end.tell(err)
		}
	}()
	return e, nil
}

// lockDir takes the directory for this process. bbolt has a lock of its own, but
// waits for it without a word.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded catalog: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("embedded catalog: %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func startEtcd(ctx context.Context, cfg EmbeddedConfig, register func(*grpc.Server), em *Embedded) (*embed.Etcd, error) {
	client, err := url.Parse("http://" + cfg.ListenClient)
	if err != nil {
		return nil, fmt.Errorf("embedded catalog: listen address %q: %w", cfg.ListenClient, err)
	}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"} // one member: nobody ever dials it

	ec := embed.NewConfig()
	ec.Name = "braid"
	ec.Dir = filepath.Join(cfg.Dir, "etcd")
	ec.ListenClientUrls = []url.URL{*client}
	ec.AdvertiseClientUrls = []url.URL{*client}
	ec.ListenPeerUrls = []url.URL{peer}
	ec.AdvertisePeerUrls = []url.URL{peer}
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.QuotaBackendBytes = cfg.Quota
	ec.UnsafeNoFsync = cfg.NoSync
	ec.SnapshotCount = 10_000
	ec.MaxSnapFiles, ec.MaxWalFiles = 2, 2
	// The log is synced at each write; the database behind it need not be at once, and
	// every sync of it holds up what is written meanwhile.
	ec.BackendBatchInterval = time.Second
	ec.MaxRequestBytes = 2 << 20
	// Watchers that fall behind an hour reload; history is of no other use.
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "1h"
	ec.EnableGRPCGateway = false
	ec.ServiceRegister = register
	// A shared disk is at times slower than etcd's 100 ms; at a second it is worth a word.
	ec.WarningApplyDuration, ec.WarningUnaryRequestDuration = time.Second, time.Second
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapToSlog(cfg.Logger, &em.closing).WithOptions(zap.WithFatalHook(em.end), zap.WithPanicHook(em.end)))

	e, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("embedded catalog: %w", err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("etcd stopped while it started")
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.Server.HardStop()
	e.Close()
	return nil, fmt.Errorf("embedded catalog: %w", err)
}

// Endpoints gives the URLs that catalog clients connect to, with the real port.
func (e *Embedded) Endpoints() []string {
	urls := make([]string, 0, len(e.etcd.Clients))
	for _, l := range e.etcd.Clients {
		urls = append(urls, "http://"+l.Addr().String())
	}
	return urls
}

// Err reports a failure of the running server. After one that is [ErrEnded] nothing of the server moves any more, and
// Close would wait for it without end: the process has to end.
func (e *Embedded) Err() <-chan error { return e.end.why }

// Close stops etcd and waits for it.
func (e *Embedded) Close() error {
	var err error
	e.once.Do(func() {
		e.closing.Store(true)
		hurry := time.AfterFunc(closeGrace, func() {
			for _, s := range e.grpc {
				s.Stop()
			}
		})
		defer hurry.Stop()
		e.etcd.Close()
		err = e.lock.Close()
	})
	return err
}
