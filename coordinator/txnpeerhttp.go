package coordinator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Peers speak HTTP on the operator's network: a POST of a [PeerRequest] in JSON to
// peerPath. Either side proves by a keyed hash over the body that it knows the
// fleet's internal token. The questions may be repeated by whoever overhears them:
// each only says again what is so already.
const (
	peerPath      = "/v1/coordinator"
	peerHeader    = "X-Braid-Proof"
	maxPeerBody   = 1 << 20
	maxPeerAnswer = 64 << 20 // offsets of all groups of a gateway, for one partition
)

func peerProof(token, side string, body []byte) string {
	m := hmac.New(sha256.New, []byte(token))
	_, _ = m.Write([]byte(side + "\x00")) // a hash takes everything
	_, _ = m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

// decodePeer takes exactly one request, with one question that a coordinator could ask.
//
// Fields that this release does not know are passed over, in questions as in answers: while a fleet is
// upgraded gateways of two releases ask one another, and a refusal would stop every transaction and offset between them. So a
// field that is added later may only be one that whoever does not know it can do without. What must
// not be passed over comes as a question of its own, which is refused here: none that is known was asked.
func decodePeer(body []byte) (*PeerRequest, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	var req PeerRequest
	if err := d.Decode(&req); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeerRequest, err)
	}
	asked := 0
	name := func(s string) bool { return s != "" && len(s) <= maxStringBytes }
	ok := true
	if e := req.Enlist; e != nil {
		asked++
		ok = ok && name(e.Tenant) && name(e.ID) && e.At.Partition >= 0 && e.At.Index >= 0 && e.At.First >= 0 && e.At.Floor >= 0 &&
			len(e.At.Cluster) <= maxName && len(e.At.Physical.Name) <= maxName
	}
	if a := req.Add; a != nil {
		asked++
		ok = ok && name(a.Tenant) && name(a.ID) && name(a.Group)
	}
	if s := req.Settle; s != nil {
		asked++
		ok = ok && name(s.Tenant) && name(s.Group)
	}
	if o := req.Offsets; o != nil {
		asked++
		ok = ok && o.Partition >= 0
	}
	if s := req.Stand; s != nil {
		asked++
		ok = ok && len(s.Topics) > 0 && len(s.Topics) <= StandTopics && len(s.Shards) <= maxShards
	}
	if _, err := d.Token(); asked != 1 || !ok || !errors.Is(err, io.EOF) {
		return nil, ErrPeerRequest
	}
	return &req, nil
}

// PeerServer answers the coordinators of other gateways.
type PeerServer struct {
	server *http.Server
	done   chan struct{}
}

// PeerRoute is what else the processes of a fleet ask of a gateway. Whoever overhears a request may send it again,
// so that has to do no harm.
type PeerRoute struct {
	Path string
	// Serve takes a body of at most 1 MiB and gives the answer. An error that is an [ErrPeerRequest] is the asker's fault.
	Serve func(ctx context.Context, body []byte) ([]byte, error)
}

// sides are what the two ends of a route prove.
func sides(path string) (ask, answer string) {
	if path == peerPath {
		return "ask", "answer"
	}
	return "ask " + path, "answer " + path
}

// ServePeers serves on l until Close.
func (c *Coordinator) ServePeers(l net.Listener, token string, more ...PeerRoute) *PeerServer {
	mux := http.NewServeMux()
	serve := func(p PeerRoute) {
		mux.HandleFunc("POST "+p.Path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPeerBody))
			if err != nil {
				http.Error(w, "body cannot be read", http.StatusBadRequest)
				return
			}
			ask, answer := sides(p.Path)
			if !hmac.Equal([]byte(r.Header.Get(peerHeader)), []byte(peerProof(token, ask, body))) {
				http.Error(w, "wrong internal token", http.StatusForbidden)
				return
			}
			out, err := p.Serve(r.Context(), body)
			switch {
			case errors.Is(err, ErrPeerRequest):
				http.Error(w, "malformed request", http.StatusBadRequest)
				return
			case err != nil:
				c.logger.Debug("a peer's request failed", "path", p.Path, "err", err)
				http.Error(w, "request failed", http.StatusInternalServerError)
				return
			}
			w.Header().Set(peerHeader, peerProof(token, answer, out))
			_, _ = w.Write(out) // whoever asked is gone if this fails, and asks again
		})
	}
	serve(PeerRoute{Path: peerPath, Serve: func(ctx context.Context, body []byte) ([]byte, error) {
		req, err := decodePeer(body)
		if err != nil {
			return nil, err
		}
		return json.Marshal(c.ServePeer(ctx, req))
	}})
	for _, p := range more {
		serve(p)
	}
	s := &PeerServer{done: make(chan struct{}), server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(c.logger.Handler(), slog.LevelDebug)}}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			c.logger.Error("listener for other gateways' coordinators ended", "err", err)
		}
	}()
	return s
}

// Close ends the server and cuts what is under way, which is asked again elsewhere.
func (s *PeerServer) Close() error {
	err := s.server.Close()
	<-s.done
	return err
}

// HTTPPeers reaches other gateways. addr finds where one listens, "" if it does not.
func HTTPPeers(token string, addr func(node int32) string) *PeerClient {
	return &PeerClient{token: token, addr: addr, client: &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}}}
}

// PeerClient is [Peers] over HTTP.
type PeerClient struct {
	token  string
	addr   func(node int32) string
	client *http.Client
}

// ErrPeerRequest: what a peer asked is malformed.
var ErrPeerRequest = errors.New("malformed request of a peer")

var errPeer = errors.New("peer's answer cannot be trusted")

// Ask implements [Peers].
func (p *PeerClient) Ask(ctx context.Context, node int32, req *PeerRequest) (*PeerResponse, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	out, err := p.Post(ctx, node, peerPath, body)
	if err != nil {
		return nil, err
	}
	var answer PeerResponse
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("gateway %d: %w: %w", node, errPeer, err)
	}
	return &answer, nil
}

// Post asks a gateway by a [PeerRoute].
func (p *PeerClient) Post(ctx context.Context, node int32, path string, body []byte) ([]byte, error) {
	addr := p.addr(node)
	if addr == "" {
		return nil, fmt.Errorf("gateway %d has no address for peers", node)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	ask, answer := sides(path)
	r.Header.Set(peerHeader, peerProof(p.token, ask, body))
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerAnswer))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("gateway %d answered %s", node, resp.Status)
	case !hmac.Equal([]byte(resp.Header.Get(peerHeader)), []byte(peerProof(p.token, answer, out))):
		return nil, fmt.Errorf("gateway %d: %w", node, errPeer)
	}
	return out, nil
}

// Close gives the connections back.
func (p *PeerClient) Close() { p.client.CloseIdleConnections() }
