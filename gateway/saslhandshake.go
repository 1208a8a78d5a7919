package gateway

// SaslHandshake, key 17, versions 0 to 1.
//
// Like Apache Kafka: after version 0 the tokens come without a header of
// Kafka's, after version 1 in SaslAuthenticate. A mechanism that the listener
// does not have is answered with those that it has, and the connection ends. A
// connection that is authenticated may begin again if its session has an end
// (KIP-368), once a second; else it is in ILLEGAL_SASL_STATE.
//
// Differences: a listener that lets clients in without authentication, as the
// one of `braid up` does, takes those that begin it all the same, before their
// first other request.

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// reauthInterval is the least time between two authentications of a connection.
const reauthInterval = time.Second

func serveSaslHandshake(asked *call) error {
	var end error
	err := message(func(call *call, req *kmsg.SASLHandshakeRequest) kmsg.Response {
		var resp kmsg.Response
		resp, end = saslHandshake(call, req)
		return resp
	})(asked)
	if err == nil {
		err = end
	}
	return err
}

func saslHandshake(call *call, req *kmsg.SASLHandshakeRequest) (kmsg.Response, error) {
	c := call.c
	resp := kmsg.NewPtrSASLHandshakeResponse()
	a := c.auth
	if a == nil && len(c.l.cfg.Mechanisms) > 0 && !c.used {
		a = &auth{finalized: true} // was let in already
	}
	var last time.Time
	if a != nil {
		last = a.againAt
	}
	if a == nil || a.phase == phaseDone && (a.expires.IsZero() || call.start.Sub(last) < reauthInterval) {
		resp.ErrorCode = call.failed(wire.IllegalSASLState)
		return resp, nil
	}
	resp.SupportedMechanisms = c.l.cfg.Mechanisms
	if !c.l.speaks(req.Mechanism) {
		resp.ErrorCode = call.failed(wire.UnsupportedSASLMechanism)
		return resp, errAuthentication
	}
	if a.phase == phaseDone {
		a.again, a.againAt, a.other = true, call.start, a.id.Mechanism != req.Mechanism
	}
	a.phase, a.raw, a.mechanism = phaseTokens, req.Version == 0, req.Mechanism
	a.exchange, a.refused = call.g.opts.SASL.Begin(req.Mechanism, lookup{c: c}), false
	c.auth = a
	return resp, nil
}
