package catalog

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// formatVersion of everything below /braid/v1/. A release refuses a newer one.
const formatVersion = 1

const (
	// txnOps is etcd's default limit of operations in one transaction.
	txnOps = 128
	// txnBytes keeps a transaction below etcd's request limit.
	txnBytes = 1 << 20
	// loadPage is how many keys one read of a load asks for.
	loadPage = 500
)

// redial is how a client looks for a catalog that it is not connected to. By gRPC's own defaults it looks
// ever more seldom, up to 2 minutes apart: that much longer than its catalog a fleet would be without one. An attempt
// that hangs, at a host that is off the network, is given up to begin anew.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 3 * time.Second,
}

// Config says where the catalog is.
type Config struct {
	Endpoints   []string
	TLS         *tls.Config
	DialTimeout time.Duration // 0: 5 s
	// AnswerTimeout bounds one request where the caller's context does not; 0: 5 s.
	AnswerTimeout time.Duration
	// Lenient is [Tenant.Lenient] of the default tenant of a catalog that is fresh; one that is there keeps what it has.
	Lenient bool
	Logger  *slog.Logger
}

// Catalog is a client of the versioned state. All methods may be called
// concurrently; all of them honour their context.
type Catalog struct {
	cli    *clientv3.Client
	logger *slog.Logger
	fleet  string
	answer time.Duration // Config.AnswerTimeout
	owed   owed
	leaving
}

type format struct {
	Version int    `json:"version"`
	Fleet   string `json:"fleet"`
}

// Connect opens a client and makes sure that the catalog is of a format that this
// release knows ([ErrFormat] otherwise); a fresh one is given its format and fleet id.
func Connect(ctx context.Context, cfg Config) (*Catalog, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = 5 * time.Second
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialTimeout:          cfg.DialTimeout,
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: cfg.AnswerTimeout * 3 / 5,
		BackoffWaitBetween:   20 * time.Millisecond,
		MaxCallSendMsgSize:   8 << 20,
		Logger:               zapToSlog(cfg.Logger, nil),
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(redial)},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the catalog: %w", err)
	}
	c := &Catalog{cli: cli, logger: cfg.Logger, answer: cfg.AnswerTimeout}
	if err := c.checkFormat(ctx, cfg.Lenient); err != nil {
		if cerr := cli.Close(); cerr != nil {
			cfg.Logger.Debug("close of the catalog client", "err", cerr)
		}
		return nil, fmt.Errorf("connect to the catalog at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return c, nil
}

// Close ends the connection. Watchers and sessions must have been closed before.
func (c *Catalog) Close() error {
	if err := c.cli.Close(); err != nil {
		return fmt.Errorf("close the catalog: %w", err)
	}
	return nil
}

// Fleet is a short id made with the catalog. It is part of the name of every
// physical topic, so that two fleets on one cluster never touch each other's.
func (c *Catalog) Fleet() string { return c.fleet }

// ClusterID is what clients of the default tenant are told that their cluster's id is.
func (c *Catalog) ClusterID() string { return "braid-" + c.fleet }

func (c *Catalog) checkFormat(ctx context.Context, lenient bool) error {
	value, err := encode(format{Version: formatVersion, Fleet: RandomName(6)})
	if err != nil {
		return err
	}
	fresh := []clientv3.Op{clientv3.OpPut(keyFormat, value)}
	if lenient {
		t := *defaultTenant
		t.Lenient = true
		record, err := encode(&t)
		if err != nil {
			return err
		}
		fresh = append(fresh, clientv3.OpPut(tenantKey(DefaultTenant), record))
	}
	resp, err := c.txn(ctx, "read format",
		[]clientv3.Cmp{absent(keyFormat)},
		append(fresh, clientv3.OpGet(keyFormat)),
		[]clientv3.Op{clientv3.OpGet(keyFormat)})
	if err != nil {
		return err
	}
	kvs := resp.Responses[len(resp.Responses)-1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return fmt.Errorf("read format: %w", ErrNotFound)
	}
	var f format
	if err := decode(kvs[0].Value, &f); err != nil {
		return err
	}
	if f.Version != formatVersion {
		return fmt.Errorf("%w: it is version %d, this release knows up to %d: use the release that wrote it or a newer one",
			ErrFormat, f.Version, formatVersion)
	}
	c.fleet = f.Fleet
	return nil
}

// Now returns the catalog's revision, read linearizably.
func (c *Catalog) Now(ctx context.Context) (int64, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.cli.Get(ctx, keyFormat, clientv3.WithCountOnly())
	if err != nil {
		return 0, failure(ctx, "read revision", err)
	}
	return r.Header.Revision, nil
}

func (c *Catalog) txn(ctx context.Context, what string, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.cli.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		return nil, failure(ctx, what, err)
	}
	return r, nil
}

// get reads one value linearizably and decodes it; revision is the key's.
func (c *Catalog) get(ctx context.Context, what, key string, v any) (revision int64, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.cli.Get(ctx, key)
	if err != nil {
		return 0, failure(ctx, what, err)
	}
	if len(r.Kvs) == 0 {
		return 0, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	if err := decode(r.Kvs[0].Value, v); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return r.Kvs[0].ModRevision, nil
}

// item is one key as it was read.
type item struct {
	key      string
	value    []byte
	revision int64
	lease    int64
}

// list reads everything below prefix at one revision, in pages.
func (c *Catalog) list(ctx context.Context, what, prefix string, opts ...clientv3.OpOption) (items []item, revision int64, err error) {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		page, at, more, err := c.page(ctx, what, from, end, revision, opts...)
		if err != nil {
			return nil, 0, err
		}
		items, revision = append(items, page...), at
		if !more {
			return items, revision, nil
		}
		from = items[len(items)-1].key + "\x00"
	}
}

// page reads the first keys of a range, as they were at a revision (0: as they are now), and
// tells at which they were so, and whether there are more.
func (c *Catalog) page(ctx context.Context, what, from, end string, revision int64, opts ...clientv3.OpOption) (items []item, at int64, more bool, err error) {
	opts = append([]clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(loadPage), clientv3.WithRev(revision)}, opts...)
	r, err := c.getRange(ctx, what, from, opts)
	if err != nil {
		return nil, 0, false, err
	}
	if revision == 0 {
		revision = r.Header.Revision
	}
	for _, kv := range r.Kvs {
		items = append(items, item{string(kv.Key), kv.Value, kv.ModRevision, kv.Lease})
	}
	return items, revision, r.More && len(items) > 0, nil
}

func (c *Catalog) getRange(ctx context.Context, what, from string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.cli.Get(ctx, from, opts...)
	return r, failure(ctx, what, err)
}

// put writes one value guarded by revision: 0 means the key must not exist, -1 any.
// It returns the new revision.
func (c *Catalog) put(ctx context.Context, what, key string, revision int64, fence Fence, v any, opts ...clientv3.OpOption) (int64, error) {
	value, err := encode(v)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	cmps := fence.guard(nil)
	if revision >= 0 {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	}
	r, err := c.txn(ctx, what, cmps, []clientv3.Op{clientv3.OpPut(key, value, opts...)},
		append(fence.probe(nil), clientv3.OpGet(key, clientv3.WithKeysOnly())))
	if err != nil {
		return 0, err
	}
	if r.Succeeded {
		return r.Header.Revision, nil
	}
	if err := fence.check(r); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	kvs := r.Responses[len(r.Responses)-1].GetResponseRange().Kvs
	switch {
	case len(kvs) == 0:
		return 0, fmt.Errorf("%s: %w", what, ErrNotFound)
	case revision == 0:
		return 0, fmt.Errorf("%s: %w", what, ErrExists)
	}
	return 0, fmt.Errorf("%s: %w", what, ErrConflict)
}

// remove deletes one key guarded by revision (-1 any). Removing what is gone succeeds.
func (c *Catalog) remove(ctx context.Context, what, key string, revision int64, fence Fence) error {
	cmps := fence.guard(nil)
	if revision >= 0 {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	}
	r, err := c.txn(ctx, what, cmps, []clientv3.Op{clientv3.OpDelete(key)},
		append(fence.probe(nil), clientv3.OpGet(key, clientv3.WithKeysOnly())))
	if err != nil {
		return err
	}
	if r.Succeeded {
		return nil
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(r.Responses[len(r.Responses)-1].GetResponseRange().Kvs) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, ErrConflict)
}

func absent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
}

var nameEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// RandomName gives n random characters of a-z and 2-7: 5 bits each.
func RandomName(n int) string {
	b := make([]byte, (n*5+7)/8)
	// crypto/rand.Read never fails: it ends the process rather than return weak bytes.
	rand.Read(b) //nolint:errcheck
	return nameEncoding.EncodeToString(b)[:n]
}

// RandomID gives a fresh id. It never begins with a zero byte, so it is never
// one of the reserved topic ids.
func RandomID() ID {
	var id ID
	for id[0] == 0 {
		rand.Read(id[:]) //nolint:errcheck // see RandomName
	}
	return id
}
