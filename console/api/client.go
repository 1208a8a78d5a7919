package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what the client reads of one answer.
const maxAnswer = 256 << 20

// Client speaks to the admin API of one process.
type Client struct {
	base   string
	http   *http.Client
	tenant string // whose topics and operations; "" is the default tenant's
	token  string // of an operator; "" shows none
}

// ClientOptions say how a client signs on, and whom it trusts.
type ClientOptions struct {
	Token string // of an operator
	TLS   *tls.Config
}

// NewClient takes a base URL such as http://127.0.0.1:9080.
func NewClient(base string) (*Client, error) { return NewClientWith(base, ClientOptions{}) }

// NewClientWith is NewClient with options.
func NewClientWith(base string, o ClientOptions) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("admin address %q is not a URL like http://127.0.0.1:9080", base)
	}
	return &Client{
		base:  strings.TrimRight(base, "/"),
		token: o.Token,
		http: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     30 * time.Second,
			TLSClientConfig:     o.TLS,
			TLSHandshakeTimeout: 5 * time.Second,
		}},
	}, nil
}

// Status returns the fleet at a glance.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/status")
}

// Clusters lists all clusters by name.
func (c *Client) Clusters(ctx context.Context) ([]Cluster, error) {
	return get[[]Cluster](ctx, c, "/clusters")
}

// Cluster returns one.
func (c *Client) Cluster(ctx context.Context, name string) (Cluster, error) {
	return get[Cluster](ctx, c, "/clusters/"+url.PathEscape(name))
}

// ClusterRights tells what a cluster grants of what Braid needs there.
func (c *Client) ClusterRights(ctx context.Context, name string) ([]Right, error) {
	return get[[]Right](ctx, c, "/clusters/"+url.PathEscape(name)+"/rights")
}

// AddCluster connects to a cluster and adds it.
func (c *Client) AddCluster(ctx context.Context, req ClusterAdd) (Cluster, error) {
	return send[Cluster](ctx, c, http.MethodPost, "/clusters", req)
}

// RemoveCluster forgets a cluster that no chain needs.
func (c *Client) RemoveCluster(ctx context.Context, name string) error {
	_, err := send[struct{}](ctx, c, http.MethodDelete, "/clusters/"+url.PathEscape(name), nil)
	return err
}

// Topics lists all topics by name.
func (c *Client) Topics(ctx context.Context) ([]TopicSummary, error) {
	return get[[]TopicSummary](ctx, c, "/topics")
}

// Topic returns one with its chains and certificates.
func (c *Client) Topic(ctx context.Context, name string) (Topic, error) {
	return get[Topic](ctx, c, "/topics/"+url.PathEscape(name))
}

// CreateTopic makes a topic.
func (c *Client) CreateTopic(ctx context.Context, req TopicCreate) (Topic, error) {
	return send[Topic](ctx, c, http.MethodPost, "/topics", req)
}

// DeleteTopic removes a topic and its records.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	_, err := send[struct{}](ctx, c, http.MethodDelete, "/topics/"+url.PathEscape(name), nil)
	return err
}

// Submit starts an operation.
func (c *Client) Submit(ctx context.Context, req OpRequest) (Op, error) {
	return send[Op](ctx, c, http.MethodPost, "/ops", req)
}

// Plan tells what an operation would do, and does nothing.
func (c *Client) Plan(ctx context.Context, req OpRequest) (Plan, error) {
	return send[Plan](ctx, c, http.MethodPost, "/plans", req)
}

// Ops lists operations, newest first.
func (c *Client) Ops(ctx context.Context) ([]Op, error) { return get[[]Op](ctx, c, "/ops") }

// Op returns one operation. With after > 0 it waits, up to 20 seconds, until the
// operation's revision is past it.
func (c *Client) Op(ctx context.Context, id string, after int64) (Op, error) {
	path := "/ops/" + url.PathEscape(id)
	if after > 0 {
		path += fmt.Sprintf("?after=%d", after)
	}
	return get[Op](ctx, c, path)
}

// CancelOp asks an operation to stop. What is committed stays.
func (c *Client) CancelOp(ctx context.Context, id string) (Op, error) {
	return send[Op](ctx, c, http.MethodPost, "/ops/"+url.PathEscape(id)+"/cancel", nil)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return send[T](ctx, c, http.MethodGet, path, nil)
}

func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var zero T
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return zero, fmt.Errorf("encode request: %w", err)
		}
		r = bytes.NewReader(b)
	}
	if c.tenant != "" {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "tenant=" + url.QueryEscape(c.tenant)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+Version+path, r)
	if err != nil {
		return zero, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return zero, ctx.Err()
		}
		return zero, &Error{Code: "unavailable", Message: "no answer from " + c.base + ": " + reason(err),
			Hint: "is `braid up` running? --admin or BRAID_ADMIN names its address"}
	}
	defer func() { _ = resp.Body.Close() }() // read to the end below; nothing more to learn
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return zero, fmt.Errorf("read answer of %s: %w", c.base, err)
	}
	if resp.StatusCode >= 400 {
		var e struct {
			Error *Error `json:"error"`
		}
		if json.Unmarshal(b, &e) != nil || e.Error == nil {
			return zero, &Error{Status: resp.StatusCode, Code: "internal",
				Message: fmt.Sprintf("%s answered %s, which is not an answer of braid", c.base, resp.Status),
				Hint:    "check --admin"}
		}
		e.Error.Status = resp.StatusCode
		return zero, e.Error
	}
	if len(b) == 0 {
		return zero, nil
	}
	if err := json.Unmarshal(b, &zero); err != nil {
		return zero, fmt.Errorf("answer of %s is not understood: %w", c.base, err)
	}
	return zero, nil
}

// reason is the innermost cause: "connection refused" rather than a chain of URLs.
func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}
