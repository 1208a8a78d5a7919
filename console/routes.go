package console

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
)

// route is one resource with a method, and the role that it needs.
type route struct {
	pattern string // METHOD /path below the version
	role    catalog.Role
	handler func(*http.Request) (any, error)
}

// table lists all routes of the API. A route without a role is nobody's.
//
// Viewers look. Operators run the fleet. What says who may do what, and which
// clusters there are, is admins': the options of a cluster name files of this
// machine whose content is sent to it.
func (s *Server) table() []route {
	return []route{
		{"GET /status", catalog.RoleViewer, s.status},
		{"GET /clusters", catalog.RoleViewer, s.clusters},
		{"POST /clusters", catalog.RoleAdmin, s.addCluster},
		{"GET /clusters/{name}", catalog.RoleViewer, s.cluster},
		{"GET /clusters/{name}/rights", catalog.RoleViewer, s.clusterRights},
		{"DELETE /clusters/{name}", catalog.RoleAdmin, s.removeCluster},
		{"GET /topics", catalog.RoleViewer, s.topics},
		{"POST /topics", catalog.RoleOperator, s.createTopic},
		{"GET /topics/{name}", catalog.RoleViewer, s.topic},
		{"DELETE /topics/{name}", catalog.RoleOperator, s.deleteTopic},
		{"GET /tenants", catalog.RoleViewer, s.tenants},
		{"POST /tenants", catalog.RoleAdmin, s.createTenant},
		{"GET /tenants/{tenant}", catalog.RoleViewer, s.tenant},
		{"PATCH /tenants/{tenant}", catalog.RoleAdmin, s.setTenant},
		{"DELETE /tenants/{tenant}", catalog.RoleAdmin, s.deleteTenant},
		{"POST /tenants/{tenant}/undelete", catalog.RoleAdmin, s.undeleteTenant},
		{"GET /tenants/{tenant}/users", catalog.RoleViewer, s.users},
		{"POST /tenants/{tenant}/users", catalog.RoleAdmin, s.addUser},
		{"POST /tenants/{tenant}/users/{user}/rotate", catalog.RoleAdmin, s.rotateUser},
		{"DELETE /tenants/{tenant}/users/{user}", catalog.RoleAdmin, s.deleteUser},
		{"GET /tenants/{tenant}/acls", catalog.RoleViewer, s.acls},
		{"POST /tenants/{tenant}/acls", catalog.RoleAdmin, s.addACLs},
		{"POST /tenants/{tenant}/acls/delete", catalog.RoleAdmin, s.deleteACLs},
		{"GET /tenants/{tenant}/quotas", catalog.RoleViewer, s.quotas},
		{"POST /tenants/{tenant}/quotas", catalog.RoleOperator, s.setQuota},
		{"GET /usage", catalog.RoleViewer, s.usage},
		{"GET /ops", catalog.RoleViewer, s.ops},
		{"POST /ops", catalog.RoleOperator, s.submit},
		{"POST /plans", catalog.RoleViewer, s.plan},
		{"GET /ops/{id}", catalog.RoleViewer, s.op},
		{"POST /ops/{id}/cancel", catalog.RoleOperator, s.cancelOp},
		{"GET /audit", catalog.RoleOperator, s.audit},
		{"GET /operators", catalog.RoleAdmin, s.operators},
		{"POST /operators", catalog.RoleAdmin, s.addOperator},
		{"POST /operators/{operator}/rotate", catalog.RoleAdmin, s.rotateOperator},
		{"DELETE /operators/{operator}", catalog.RoleAdmin, s.deleteOperator},
	}
}

func (s *Server) routes() http.Handler { return s.serving(s.table()) }

// serving is what serves the routes of a table, each to those who may.
func (s *Server) serving(table []route) http.Handler {
	mux := http.NewServeMux()
	for _, x := range table {
		method, path := cutPattern(x.pattern)
		if changes(x.pattern) {
			x.handler = s.written(x.handler)
		}
		mux.HandleFunc(method+" "+api.Version+path, s.guard(x.role, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, x.handler) }))
	}
	mux.HandleFunc(api.Version+"/", s.guard(catalog.RoleViewer, func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, &api.Error{Status: http.StatusNotFound, Code: "unknown_resource",
			Message: fmt.Sprintf("no resource %s %s", r.Method, r.URL.Path)})
	}))
	metrics := promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{}).ServeHTTP
	if !s.opts.Security.OpenMetrics {
		metrics = s.guard(catalog.RoleViewer, metrics)
	}
	mux.HandleFunc("GET /metrics", metrics)
	// What asks for these (load balancers, Kubernetes) has no token to show.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.opts.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	// A page that the operator's browser shows must not administer the fleet: where
	// the API asks nobody who they are, loopback is no bound to a browser.
	return http.MaxBytesHandler(s.ownNames(http.NewCrossOriginProtection().Handler(mux)), maxBody)
}

func cutPattern(pattern string) (method, path string) {
	for i := range pattern {
		if pattern[i] == ' ' {
			return pattern[:i], pattern[i+1:]
		}
	}
	return "", pattern
}
