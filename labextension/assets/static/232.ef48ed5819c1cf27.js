"use strict";(self.rspackChunkipyrouter=self.rspackChunkipyrouter||[]).push([[232],{475(r,t,o){var e=o(601),n=o.n(e),i=o(314),a=(o.n(i))()(n());a.push([r.id,`.ipyrouter-magic {
  color: var(--jp-mirror-editor-keyword-color);
  font-weight: bold;
}

.ipyrouter-option {
  color: var(--jp-mirror-editor-attribute-color);
}

.ipyrouter-comment {
  color: var(--jp-mirror-editor-comment-color);
  font-style: italic;
}

.ipyrouter-insertion {
  color: var(--jp-mirror-editor-def-color);
  font-weight: bold;
}

.ipyrouter-spending button {
  padding: 0 8px;
  border: none;
  background: transparent;
  color: var(--jp-ui-font-color1);
  font: inherit;
  font-variant-numeric: tabular-nums;
  line-height: 24px;
  cursor: pointer;
}

.ipyrouter-spending button:hover {
  background-color: var(--jp-layout-color3);
}

.ipyrouter-spending button:focus-visible {
  outline: 1px solid var(--jp-brand-color1);
  outline-offset: -1px;
}

.ipyrouter-panel {
  padding: 1em;
  overflow: auto;
}

/* Below an output, in line with it. */
.jp-OutputArea-child:has(> .ipyrouter-buttons) {
  flex-wrap: wrap;
}

.jp-OutputArea-child:has(> .ipyrouter-buttons) > .jp-OutputArea-output {
  flex: 1 1 0;
  min-width: 0;
}

.ipyrouter-buttons {
  flex: 0 0 100%;
  box-sizing: border-box;
  padding-left: calc(var(--jp-cell-prompt-width) - 7px); /* the first word stands below the answer's */
}

.ipyrouter-buttons button {
  margin-right: 2px;
  padding: 0 6px;
  border: 1px solid transparent;
  border-radius: var(--jp-border-radius);
  background: transparent;
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size0);
  line-height: 20px;
  opacity: 0.85;
  cursor: pointer;
}

.ipyrouter-buttons button:hover {
  border-color: var(--jp-border-color1);
  background-color: var(--jp-layout-color2);
  opacity: 1;
}

.ipyrouter-buttons button:focus-visible {
  outline: 1px solid var(--jp-brand-color1);
  opacity: 1;
}

.ipyrouter-dry-run {
  max-width: 60em;
  overflow: auto;
}

@media print {
  .ipyrouter-buttons {
    display: none;
  }
}
`,""]),o.d(t,{},{A:a})},314(r){r.exports=function(r){var t=[];return t.toString=function(){return this.map(function(t){var o="",e=void 0!==t[5];return t[4]&&(o+="@supports (".concat(t[4],") {")),t[2]&&(o+="@media ".concat(t[2]," {")),e&&(o+="@layer".concat(t[5].length>0?" ".concat(t[5]):""," {")),o+=r(t),e&&(o+="}"),t[2]&&(o+="}"),t[4]&&(o+="}"),o}).join("")},t.i=function(r,o,e,n,i){"string"==typeof r&&(r=[[null,r,void 0]]);var a={};if(e)for(var u=0;u<this.length;u++){var c=this[u][0];null!=c&&(a[c]=!0)}for(var p=0;p<r.length;p++){var s=[].concat(r[p]);e&&a[s[0]]||(void 0!==i&&(void 0===s[5]||(s[1]="@layer".concat(s[5].length>0?" ".concat(s[5]):""," {").concat(s[1],"}")),s[5]=i),o&&(s[2]&&(s[1]="@media ".concat(s[2]," {").concat(s[1],"}")),s[2]=o),n&&(s[4]?(s[1]="@supports (".concat(s[4],") {").concat(s[1],"}"),s[4]=n):s[4]="".concat(n)),t.push(s))}},t}},601(r){r.exports=function(r){return r[1]}},72(r){var t=[];function o(r){for(var o=-1,e=0;e<t.length;e++)if(t[e].identifier===r){o=e;break}return o}function e(r,e){for(var n={},i=[],a=0;a<r.length;a++){var u=r[a],c=e.base?u[0]+e.base:u[0],p=n[c]||0,s="".concat(c," ").concat(p);n[c]=p+1;var l=o(s),d={css:u[1],media:u[2],sourceMap:u[3],supports:u[4],layer:u[5]};if(-1!==l)t[l].references++,t[l].updater(d);else{var f=function(r,t){var o=t.domAPI(t);return o.update(r),function(t){t?(t.css!==r.css||t.media!==r.media||t.sourceMap!==r.sourceMap||t.supports!==r.supports||t.layer!==r.layer)&&o.update(r=t):o.remove()}}(d,e);e.byIndex=a,t.splice(a,0,{identifier:s,updater:f,references:1})}i.push(s)}return i}r.exports=function(r,n){var i=e(r=r||[],n=n||{});return function(r){r=r||[];for(var a=0;a<i.length;a++){var u=o(i[a]);t[u].references--}for(var c=e(r,n),p=0;p<i.length;p++){var s=o(i[p]);0===t[s].references&&(t[s].updater(),t.splice(s,1))}i=c}}},659(r){var t={};r.exports=function(r,o){var e=function(r){if(void 0===t[r]){var o=document.querySelector(r);if(window.HTMLIFrameElement&&o instanceof window.HTMLIFrameElement)try{o=o.contentDocument.head}catch(r){o=null}t[r]=o}return t[r]}(r);if(!e)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");e.appendChild(o)}},540(r){r.exports=function(r){var t=document.createElement("style");return r.setAttributes(t,r.attributes),r.insert(t,r.options),t}},56(r,t,o){r.exports=function(r){var t=o.nc;t&&r.setAttribute("nonce",t)}},825(r){r.exports=function(r){if("u"<typeof document)return{update:function(){},remove:function(){}};var t=r.insertStyleElement(r);return{update:function(o){var e,n,i;e="",o.supports&&(e+="@supports (".concat(o.supports,") {")),o.media&&(e+="@media ".concat(o.media," {")),(n=void 0!==o.layer)&&(e+="@layer".concat(o.layer.length>0?" ".concat(o.layer):""," {")),e+=o.css,n&&(e+="}"),o.media&&(e+="}"),o.supports&&(e+="}"),(i=o.sourceMap)&&"u">typeof btoa&&(e+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(i))))," */")),r.styleTagTransform(e,t,r.options)},remove:function(){var r;null===(r=t).parentNode||r.parentNode.removeChild(r)}}}},113(r){r.exports=function(r,t){if(t.styleSheet)t.styleSheet.cssText=r;else{for(;t.firstChild;)t.removeChild(t.firstChild);t.appendChild(document.createTextNode(r))}}},579(r,t,o){var e=o(72),n=o.n(e),i=o(825),a=o.n(i),u=o(659),c=o.n(u),p=o(56),s=o.n(p),l=o(540),d=o.n(l),f=o(113),v=o.n(f),h=o(475),m={};m.styleTagTransform=v(),m.setAttributes=s(),m.insert=c().bind(null,"head"),m.domAPI=a(),m.insertStyleElement=d(),n()(h.A,m),h.A&&h.A.locals&&h.A.locals}}]);