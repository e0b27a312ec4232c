// cAdvisor's collection, unmodified, from its published Go modules: containers from control groups, as metrics of
// Prometheus. Upstream's own main program is in a module that cannot be had; this one has its flags, defaults, handlers and
// ports as far as a container of this project uses them.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/cadvisor/lib/cache/memory"
	"github.com/google/cadvisor/lib/container"
	"github.com/google/cadvisor/lib/manager"
	"github.com/google/cadvisor/lib/metrics"
	info "github.com/google/cadvisor/lib/model"
	"github.com/google/cadvisor/lib/utils/sysfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	_ "github.com/google/cadvisor/container/docker/install"
	_ "github.com/google/cadvisor/lib/container/containerd/install"
	_ "github.com/google/cadvisor/lib/container/systemd/install"
)

var (
	address   = flag.String("listen_ip", "", "Address to listen on; empty for all")
	port      = flag.Int("port", 8080, "Port to listen on")
	prefixes  = flag.String("raw_cgroup_prefix_whitelist", "", "Prefixes of control groups to measure with -docker_only")
	storage   = flag.Duration("storage_duration", 2*time.Minute, "How long to keep samples")
	version   = flag.Bool("version", false, "Print the version and exit")
	published = "unknown" // set by the linker
)

// What upstream leaves out by default.
var ignored = container.MetricSet{
	container.MemoryNumaMetrics: {}, container.NetworkTcpUsageMetrics: {}, container.NetworkUdpUsageMetrics: {},
	container.NetworkAdvancedTcpUsageMetrics: {}, container.ProcessSchedulerMetrics: {}, container.ProcessMetrics: {},
	container.HugetlbUsageMetrics: {}, container.ReferencedMemoryMetrics: {}, container.CPUTopologyMetrics: {},
	container.ResctrlMetrics: {}, container.CPUSetMetrics: {},
}

func main() {
	klog.InitFlags(nil)
	flag.Parse()
	if *version {
		fmt.Printf("cAdvisor version %s\n", published)
		os.Exit(0)
	}
	included := container.AllMetrics.Difference(ignored)
	collected, err := manager.New(memory.New(*storage, nil), sysfs.NewRealSysFs(),
		manager.HousekeepingConfigFlags, included, strings.Split(*prefixes, ","), nil, "", 0)
	if err != nil {
		klog.Fatalf("Failed to create a manager: %s", err)
	}
	if err := collected.Start(); err != nil {
		klog.Fatalf("Failed to start the manager: %s", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.NewPrometheusCollector(collected, metrics.DefaultContainerLabels, included, clock.RealClock{},
			info.RequestOptions{IdType: info.TypeName, Count: 1, Recursive: true}),
		metrics.NewPrometheusMachineCollector(collected, included),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) {
		_, _ = answer.Write([]byte("ok"))
	})
	klog.Fatal(http.ListenAndServe(fmt.Sprintf("%s:%d", *address, *port), nil))
}
