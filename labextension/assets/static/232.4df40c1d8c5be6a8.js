"use strict";(self.rspackChunkipyrouter=self.rspackChunkipyrouter||[]).push([[232],{475(r,t,e){var o=e(601),n=e.n(o),a=e(314),i=(e.n(a))()(n());i.push([r.id,`.ipyrouter-magic {
  color: var(--jp-mirror-editor-keyword-color);
  font-weight: bold;
}

.ipyrouter-option {
  color: var(--jp-mirror-editor-property-color);
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

/* JupyterLab breaks lines within words. In our outputs code scrolls sideways, and text breaks between words. */
.jp-OutputArea-output.jp-RenderedMarkdown:has(.tex2jax_ignore) pre {
  overflow-wrap: anywhere;
  word-break: normal;
}

.jp-OutputArea-output.jp-RenderedMarkdown:has(.tex2jax_ignore) pre:has(> [class*='language-']) {
  overflow-x: auto;
}

.jp-OutputArea-output.jp-RenderedMarkdown:has(.tex2jax_ignore) pre > [class*='language-'] {
  white-space: pre;
}

/* Below an output: the first word stands below the answer's. */
.ipyrouter-buttons {
  box-sizing: border-box;
  margin-left: -7px;
}

/* Where JupyterLab puts the prompt beside the output, and not above it. */
@media (width > 760px) {
  .jp-OutputArea-child:has(> .ipyrouter-buttons) {
    flex-wrap: wrap;
  }

  .jp-OutputArea-child:has(> .ipyrouter-buttons) > .jp-OutputArea-output {
    flex: 1 1 0;
    min-width: 0;
  }

  .ipyrouter-buttons {
    flex: 0 0 100%;
    margin-left: 0;
    padding-left: calc(var(--jp-cell-prompt-width) - 7px);
  }
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
`,""]),e.d(t,{},{A:i})},314(r){r.exports=function(r){var t=[];return t.toString=function(){return this.map(function(t){var e="",o=void 0!==t[5];return t[4]&&(e+="@supports (".concat(t[4],") {")),t[2]&&(e+="@media ".concat(t[2]," {")),o&&(e+="@layer".concat(t[5].length>0?" ".concat(t[5]):""," {")),e+=r(t),o&&(e+="}"),t[2]&&(e+="}"),t[4]&&(e+="}"),e}).join("")},t.i=function(r,e,o,n,a){"string"==typeof r&&(r=[[null,r,void 0]]);var i={};if(o)for(var u=0;u<this.length;u++){var p=this[u][0];null!=p&&(i[p]=!0)}for(var s=0;s<r.length;s++){var c=[].concat(r[s]);o&&i[c[0]]||(void 0!==a&&(void 0===c[5]||(c[1]="@layer".concat(c[5].length>0?" ".concat(c[5]):""," {").concat(c[1],"}")),c[5]=a),e&&(c[2]&&(c[1]="@media ".concat(c[2]," {").concat(c[1],"}")),c[2]=e),n&&(c[4]?(c[1]="@supports (".concat(c[4],") {").concat(c[1],"}"),c[4]=n):c[4]="".concat(n)),t.push(c))}},t}},601(r){r.exports=function(r){return r[1]}},72(r){var t=[];function e(r){for(var e=-1,o=0;o<t.length;o++)if(t[o].identifier===r){e=o;break}return e}function o(r,o){for(var n={},a=[],i=0;i<r.length;i++){var u=r[i],p=o.base?u[0]+o.base:u[0],s=n[p]||0,c="".concat(p," ").concat(s);n[p]=s+1;var l=e(c),d={css:u[1],media:u[2],sourceMap:u[3],supports:u[4],layer:u[5]};if(-1!==l)t[l].references++,t[l].updater(d);else{var f=function(r,t){var e=t.domAPI(t);return e.update(r),function(t){t?(t.css!==r.css||t.media!==r.media||t.sourceMap!==r.sourceMap||t.supports!==r.supports||t.layer!==r.layer)&&e.update(r=t):e.remove()}}(d,o);o.byIndex=i,t.splice(i,0,{identifier:c,updater:f,references:1})}a.push(c)}return a}r.exports=function(r,n){var a=o(r=r||[],n=n||{});return function(r){r=r||[];for(var i=0;i<a.length;i++){var u=e(a[i]);t[u].references--}for(var p=o(r,n),s=0;s<a.length;s++){var c=e(a[s]);0===t[c].references&&(t[c].updater(),t.splice(c,1))}a=p}}},659(r){var t={};r.exports=function(r,e){var o=function(r){if(void 0===t[r]){var e=document.querySelector(r);if(window.HTMLIFrameElement&&e instanceof window.HTMLIFrameElement)try{e=e.contentDocument.head}catch(r){e=null}t[r]=e}return t[r]}(r);if(!o)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");o.appendChild(e)}},540(r){r.exports=function(r){var t=document.createElement("style");return r.setAttributes(t,r.attributes),r.insert(t,r.options),t}},56(r,t,e){r.exports=function(r){var t=e.nc;t&&r.setAttribute("nonce",t)}},825(r){r.exports=function(r){if("u"<typeof document)return{update:function(){},remove:function(){}};var t=r.insertStyleElement(r);return{update:function(e){var o,n,a;o="",e.supports&&(o+="@supports (".concat(e.supports,") {")),e.media&&(o+="@media ".concat(e.media," {")),(n=void 0!==e.layer)&&(o+="@layer".concat(e.layer.length>0?" ".concat(e.layer):""," {")),o+=e.css,n&&(o+="}"),e.media&&(o+="}"),e.supports&&(o+="}"),(a=e.sourceMap)&&"u">typeof btoa&&(o+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(a))))," */")),r.styleTagTransform(o,t,r.options)},remove:function(){var r;null===(r=t).parentNode||r.parentNode.removeChild(r)}}}},113(r){r.exports=function(r,t){if(t.styleSheet)t.styleSheet.cssText=r;else{for(;t.firstChild;)t.removeChild(t.firstChild);t.appendChild(document.createTextNode(r))}}},579(r,t,e){var o=e(72),n=e.n(o),a=e(825),i=e.n(a),u=e(659),p=e.n(u),s=e(56),c=e.n(s),l=e(540),d=e.n(l),f=e(113),v=e.n(f),h=e(475),y={};y.styleTagTransform=v(),y.setAttributes=c(),y.insert=p().bind(null,"head"),y.domAPI=i(),y.insertStyleElement=d(),n()(h.A,y),h.A&&h.A.locals&&h.A.locals}}]);