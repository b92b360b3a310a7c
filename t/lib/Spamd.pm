# Spamd - a real spamd with a few rules of its own, and no network.
#
#   Spamd->find or plan skip_all => 'spamd is not installed';
#   my $spamd = Spamd->start("rewrite_header Subject [sa]\n");     # lines for its local.cf
#   ... socket @{[ $spamd->addr ]} ...
#
# A subject with "offer" is 7.5 points, one with "lottery" 20, one with "friend" -2; spam begins at 5.
package Spamd;
use strict;
use warnings;
use IO::Socket::INET;
use TestUtil;

my $RULES = <<'CF';
use_bayes 0
report_safe 0
add_header spam Flag _YESNOCAPS_
add_header all Status _YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTS_
required_score 5.0
header TEST_OFFER Subject =~ /offer/
score TEST_OFFER 7.5
header TEST_LOTTERY Subject =~ /lottery/
score TEST_LOTTERY 20
header TEST_FRIEND Subject =~ /friend/
score TEST_FRIEND -2
CF

sub find { return (grep { -x } '/usr/sbin/spamd', '/usr/bin/spamd', '/usr/local/bin/spamd')[0] }

sub start
{
	my ($class, $lines) = @_;
	my $self = bless { dir => temp_dir(), owner => $$, port => free_port() }, $class;
	my $dir = $self->{dir};

	mkdir "$dir/$_" or die "$dir/$_: $!" for 'rules', 'site', 'home';
	write_file("$dir/rules/10_test.cf", $RULES, 0644);
	write_file("$dir/site/init.pre", "loadplugin Mail::SpamAssassin::Plugin::Check\n", 0644);
	write_file("$dir/site/local.cf", $lines // '', 0644);
	chmod 0755, "$dir", glob "$dir/*";
	$self->{pid} = start_process("$dir/out", $self->find, '--local', '--nouser-config', '--configpath', "$dir/rules",
		'--siteconfigpath', "$dir/site", '--helper-home-dir', "$dir/home", '--max-children', 3,
		'--listen', "127.0.0.1:$self->{port}", '--syslog', 'stderr',
		is_root() ? ('--username', 'nobody') : ());
	wait_until { (IO::Socket::INET->new($self->addr) && 1) || has_ended($self->{pid}) } 30;
	has_ended($self->{pid}) and die 'spamd does not start: ' . read_file("$dir/out");
	return $self;
}

sub has_ended { my ($pid) = @_; return (read_file("/proc/$pid/stat") // ') Z') =~ /\) Z/ }
sub addr { return "127.0.0.1:$_[0]{port}" }
sub log { return read_file("$_[0]{dir}/out") // '' }
sub stop { my ($self) = @_; stop_process(delete $self->{pid}, 20) if $self->{pid}; return }
sub DESTROY { my ($self) = @_; local $?; $self->stop if $self->{owner} == $$; return }

1;
